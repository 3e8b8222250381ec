<?php

defined('DS') or exit('No direct access.');

return [
    'driver' => 'file',
    'key' => 'test',
    'memcached' => [
        ['host' => '127.0.0.1', 'port' => 11211, 'weight' => 100],
        ['host' => '/run/memcached.sock', 'port' => 0],
    ],
];
