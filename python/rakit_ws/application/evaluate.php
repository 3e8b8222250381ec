<?php
// Evaluates files of an application's configuration, and nothing else of it: prints JSON behind
// a marker. Arguments: the marker, the application's folder, its paths.php or "", and the files.

error_reporting(0);
define('DS', DIRECTORY_SEPARATOR);

final class RakitWsEvaluation
{
    public static $result = ['version' => PHP_VERSION, 'files' => []];
    public static $marker;

    public static function bootstrap($file)
    {
        if ('' !== $file) {
            require $file;
        }

        return get_defined_vars();
    }

    public static function valueOf($file)
    {
        return require $file;
    }

    public static function fault($error)
    {
        return ['fault' => $error->getMessage(), 'file' => $error->getFile(), 'line' => $error->getLine()];
    }

    // Objects and resources are named instead of being looked into.
    public static function plain($value, $depth = 0)
    {
        if (is_array($value) && $depth < 32) {
            $plain = [];

            foreach ($value as $key => $item) {
                $plain[$key] = self::plain($item, $depth + 1);
            }

            return ['array' => (object) $plain, 'list' => array_values($plain) === $plain];
        }

        if (is_null($value) || is_scalar($value)) {
            return ['value' => $value];
        }

        return ['unknown' => is_object($value) ? 'an object of ' . get_class($value) : 'a ' . gettype($value)];
    }

    public static function say()
    {
        while (ob_get_level()) {
            ob_end_clean();
        }

        $json = json_encode(self::$result, JSON_PRESERVE_ZERO_FRACTION);
        echo "\n", self::$marker, "\n", false === $json ? json_encode(['fault' => json_last_error_msg()]) : $json;
    }
}

$rakitWsArguments = array_slice($argv, 1);
RakitWsEvaluation::$marker = array_shift($rakitWsArguments);
$GLOBALS['rakit_paths'] = ['base' => array_shift($rakitWsArguments) . DS];
ob_start();
// exit() in a file ends up here, too: that file has no result then.
register_shutdown_function(['RakitWsEvaluation', 'say']);

try {
    $rakitWsDefined = RakitWsEvaluation::bootstrap(array_shift($rakitWsArguments));
    RakitWsEvaluation::$result['environments'] = isset($rakitWsDefined['environments'])
        ? RakitWsEvaluation::plain($rakitWsDefined['environments'])
        : null;
} catch (Throwable $error) {
    RakitWsEvaluation::$result['paths_fault'] = RakitWsEvaluation::fault($error);
}

foreach (['app' => 'application', 'system' => 'system', 'package' => 'packages', 'storage' => 'storage', 'assets' => 'assets'] as $name => $folder) {
    if (!isset($GLOBALS['rakit_paths'][$name])) {
        $GLOBALS['rakit_paths'][$name] = $GLOBALS['rakit_paths']['base'] . $folder . DS;
    }
}

if (!isset($GLOBALS['rakit_paths']['rakit_key'])) {
    $GLOBALS['rakit_paths']['rakit_key'] = $GLOBALS['rakit_paths']['base'] . 'key.php';
}

RakitWsEvaluation::$result['paths'] = $GLOBALS['rakit_paths'];

if (!function_exists('path')) {
    function path($name)
    {
        return $GLOBALS['rakit_paths'][$name];
    }
}

// database.php names its constants; the extension need not be there.
if (!class_exists('PDO', false)) {
    class PDO
    {
        const FETCH_ASSOC = 2;
        const FETCH_NUM = 3;
        const FETCH_BOTH = 4;
        const FETCH_OBJ = 5;
        const FETCH_CLASS = 8;
    }
}

foreach ($rakitWsArguments as $file) {
    $file = 'key.php' === $file ? $GLOBALS['rakit_paths']['rakit_key'] : $file;

    try {
        $value = RakitWsEvaluation::plain(RakitWsEvaluation::valueOf($file));
        $fault = false === json_encode($value) ? ['fault' => json_last_error_msg(), 'file' => $file, 'line' => 1] : null;
        RakitWsEvaluation::$result['files'][] = $fault ?: $value;
    } catch (Throwable $error) {
        RakitWsEvaluation::$result['files'][] = RakitWsEvaluation::fault($error);
    }
}
