<?php

defined('DS') or exit('No direct access.');

$environments = [
    'local' => ['http://localhost*', '*.test'],
    'production' => ['https://app.example*'],
];

$paths = ['app' => 'application'];
$paths['rakit_key'] = 'key.php';
$paths['storage'] = 'storage';

chdir(__DIR__);
$GLOBALS['rakit_paths']['base'] = __DIR__ . DS;

foreach ($paths as $name => $path) {
    $GLOBALS['rakit_paths'][$name] = 'rakit_key' === $name
        ? $GLOBALS['rakit_paths']['base'] . $path
        : realpath($path) . DS;
}

function path($path)
{
    return $GLOBALS['rakit_paths'][$path];
}
