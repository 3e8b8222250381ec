<?php

defined('DS') or exit('No direct access.');

return [
    'max_buffer_size' => 4096,
    'origin_required' => false,
    'allowed_origins' => [],
    'allowed_hosts' => [],
    'ping_timeout' => 0,
    'logging_enabled' => true,
    'logging_output' => 'stdout',
];
