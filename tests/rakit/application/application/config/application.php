<?php

defined('DS') or exit('No direct access.');

return [
    'name' => 'Test',
    'url' => 'https://app.example',
    'timezone' => 'Asia/Jakarta',
    'composer_autoload' => path('base') . 'vendor/autoload.php',
];
