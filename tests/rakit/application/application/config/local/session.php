<?php

defined('DS') or exit('No direct access.');

return [
    'cookie' => 'local_session',
];
