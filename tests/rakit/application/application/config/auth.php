<?php

defined('DS') or exit('No direct access.');

return [
    'driver' => 'magic',
    'identifier' => 'email',
    'table' => 'users',
    'model' => 'User',
];
