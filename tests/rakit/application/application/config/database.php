<?php

defined('DS') or exit('No direct access.');

return [
    'fetch' => PDO::FETCH_CLASS,
    'default' => 'sqlite',
    'connections' => [
        'sqlite' => ['driver' => 'sqlite', 'database' => 'application', 'prefix' => ''],
        'mysql' => [
            'driver' => 'mysql',
            'host' => '127.0.0.1',
            'port' => '3306',
            'database' => 'shop',
            'username' => 'shop@office',
            'password' => 'p@ss/word\\\'"',
            'charset' => 'utf8',
            'prefix' => 'pre_',
        ],
        'pgsql' => [
            'driver' => 'pgsql',
            'host' => '::1',
            'port' => '5432',
            'database' => 'shop',
            'username' => 'shop',
            'password' => '',
            'prefix' => '',
            'schema' => 'public',
        ],
        'sqlsrv' => ['driver' => 'sqlsrv', 'host' => 'x', 'database' => 'y', 'username' => 'z', 'password' => ''],
    ],
    'redis' => [
        'default' => ['host' => '127.0.0.1', 'port' => 6379, 'database' => 3],
    ],
];
