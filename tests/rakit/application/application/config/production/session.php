<?php

defined('DS') or exit('No direct access.');

return [
    'lifetime' => 120,
];
