<?php

defined('DS') or exit('No direct access.');

return [
    // where sessions are
    'driver' => 'file',
    'table' => 'sessions',
    'lifetime' => 60,
    'cookie' => 'rakit_session',
    'domain' => null,
    'secure' => false,
    'stateless' => ['api/*'],
];
