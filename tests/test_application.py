"""A Rakit application's own configuration: read by PHP, or without it, and what becomes of it."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from conftest import until
from rakit_backends import FIXTURES
from rakit_ws import ConfigError, Server
from rakit_ws.application import php as php_module
from rakit_ws.application.application import read
from rakit_ws.application.literals import Literals
from rakit_ws.application.php import Php
from rakit_ws.application.values import MAX_FILE_BYTES, Unknown
from rakit_ws.cli import main
from rakit_ws.layers import resolve
from raw_client import request
from test_rakit import GUARD, KEY, cookie, record, session_file

APPLICATION = Path(__file__).parent / "rakit" / "application"
PHP = shutil.which("php")
needs_php = pytest.mark.skipif(PHP is None, reason="php is not installed")
CONFIG = "application/config"

means = pytest.mark.parametrize(
    "means", [pytest.param("php", marks=needs_php), pytest.param("", id="literals")]
)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    monkeypatch.delenv("RAKIT_ENV", raising=False)


@pytest.fixture
def folder(tmp_path):
    """Make an application with two users in SQLite, and one session, of user 1."""
    folder = tmp_path / "application"
    shutil.copytree(APPLICATION, folder)
    for each in ("database", "sessions"):  # git keeps no empty folders
        (folder / "storage" / each).mkdir(parents=True, exist_ok=True)
    shutil.copy(FIXTURES / "database/application.sqlite", folder / "storage/database")
    session_file(folder / "storage/sessions").write_bytes(GUARD + record())
    return folder


@pytest.fixture
def write(folder):
    """Write a file of the configuration: what it returns."""

    def write(name, returned, *, before=""):
        path = folder / CONFIG / f"{name}.php"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"<?php\n{before}return {returned};\n")

    return write


def effective(folder, php="php", **rakit):
    return resolve(base={"rakit": {"path": str(folder), "php": php, **rakit}})


def refusal(folder, php="php", **rakit):
    with pytest.raises(ConfigError) as fault:
        effective(folder, php, **rakit)
    return str(fault.value)


# --- What is found


@means
def test_everything_is_found(folder, means):
    found = effective(folder, means)
    config = found.config
    assert config.auth.sources == ("rakit",)
    assert config.auth.cookie_origins == ("https://app.example",)
    assert (config.max_buffer_size, config.ping_timeout) == (4096, 0)
    rakit = config.rakit
    assert rakit.key == KEY
    assert (rakit.session_driver, rakit.session_cookie) == ("file", "rakit_session")
    assert rakit.session_path == f"{folder}/storage/sessions"
    assert rakit.session_lifetime == 120  # of production, which fits the URL
    assert (rakit.auth_driver, rakit.users_table) == ("magic", "users")
    url = make_url(rakit.database_url)
    assert url.database == f"{folder}/storage/database/application.sqlite"
    assert found.sources["rakit.session_lifetime"] == f"{CONFIG}/production/session.php"
    assert found.sources["rakit.session_driver"] == f"{CONFIG}/session.php"
    assert found.application.means == (
        "its literals, without PHP" if not means else found.application.means
    )


@needs_php
def test_php_and_the_parser_find_the_same(folder):
    for environment in ("", "local", "production"):
        by_php = read(folder, environment=environment, php="php")
        without = read(folder, environment=environment, php="")
        for name in without.files:
            found = dict(without.files[name])
            if name == "database":
                assert isinstance(found.pop("fetch"), Unknown)
                assert by_php.files[name].pop("fetch") == 8
            assert found == by_php.files[name]
        assert without.key == by_php.key
        assert without.origins == by_php.origins
        assert {name: without.paths[name] for name in ("base", "storage", "rakit_key")} == {
            name: by_php.paths[name] for name in ("base", "storage", "rakit_key")
        }


@means
def test_what_is_set_here_wins(folder, means, tmp_path):
    found = resolve(
        base={"rakit": {"path": str(folder), "php": means, "session_cookie": "mine"}},
        environ={"RAKIT_WS_MAX_BUFFER_SIZE": "5000", "RAKIT_WS_RAKIT_SESSION_LIFETIME": "7"},
    )
    assert found.config.rakit.session_cookie == "mine"
    assert found.config.rakit.session_lifetime == 7
    assert found.config.max_buffer_size == 5000
    assert found.sources["max_buffer_size"] == "RAKIT_WS_MAX_BUFFER_SIZE"


def test_folder_that_is_no_application_is_only_where_key_and_sessions_are(tmp_path):
    found = resolve(base={"auth": {"sources": ["rakit"]}, "rakit": {"path": str(tmp_path)}})
    assert found.application is None
    assert "max_buffer_size" not in found.sources


def test_path_that_leads_elsewhere_makes_no_guests_without_a_word(tmp_path):
    assert "no application/config in it" in refusal(tmp_path)


def test_flag_wants_an_application(tmp_path):
    with pytest.raises(ConfigError, match="no application/config in it"):
        resolve(flags={"rakit.path": str(tmp_path)})


@means
def test_sources_that_are_named_are_kept_and_without_rakit_nothing_more_is_needed(
    folder, write, means
):
    write("session", "['driver' => nobody_knows()]")
    found = resolve(
        base={"auth": {"sources": ["function"]}, "rakit": {"path": str(folder), "php": means}}
    )
    assert found.config.auth.sources == ("function",)
    assert found.config.rakit.key == ""
    assert found.config.max_buffer_size == 4096


@means
def test_application_that_lacks_files_is_read_with_what_is_the_framework_s_own(folder, means):
    for name in ("session", "auth", "cache", "websocket", "application", "production/session"):
        (folder / CONFIG / f"{name}.php").unlink()
    (folder / "paths.php").unlink()
    config = effective(folder, means).config
    assert (config.rakit.session_driver, config.rakit.users_table) == ("file", "users")
    assert config.rakit.session_path == f"{folder}/storage/sessions"


@means
def test_paths_may_be_others(folder, write, means):
    text = (folder / "paths.php").read_text()
    text = text.replace("= 'key.php'", "= 'secret/the-key.php'").replace("= 'storage'", "= 'var'")
    (folder / "paths.php").write_text(text)
    (folder / "secret").mkdir()
    (folder / "key.php").rename(folder / "secret/the-key.php")
    (folder / "storage").rename(folder / "var")
    found = effective(folder, means)
    assert found.config.rakit.key == KEY
    assert found.config.rakit.session_path == f"{folder}/var/sessions"
    assert found.sources["rakit.key"] == "secret/the-key.php"


# --- Its environment


@means
@pytest.mark.parametrize(
    ("wanted", "variable", "url", "expected"),
    [
        ("", None, "https://app.example/", "production"),
        ("", None, "https://other.example", ""),
        ("", None, "http://localhost:8000", "local"),
        ("", None, "", "local"),  # there is a folder, and nothing else is known
        ("", "production", "", "production"),
        ("local", "production", "https://app.example", "local"),
        ("nowhere", None, "", "nowhere"),
    ],
)
def test_environment(folder, write, monkeypatch, means, wanted, variable, url, expected):
    write("application", f"['url' => '{url}']")
    if variable:
        monkeypatch.setenv("RAKIT_ENV", variable)
    found = effective(folder, means, environment=wanted)
    assert found.application.environment == expected
    cookies = {"local": "local_session"}
    assert found.config.rakit.session_cookie == cookies.get(expected, "rakit_session")


@means
def test_environment_may_be_named_by_the_machine(folder, write, means):
    write("application", "['url' => '']")
    text = (folder / "paths.php").read_text()
    (folder / "paths.php").write_text(text.replace("*.test", socket.gethostname()))
    application = effective(folder, means).application
    assert (application.environment, "this machine" in application.reason) == ("local", True)


@means
def test_override_replaces_a_whole_key_of_the_first_level(folder, write, means):
    write(
        "production/database",
        "['connections' => ['sqlite' => ['driver' => 'sqlite', 'database' => 'other']]]",
    )
    config = effective(folder, means).config
    assert config.rakit.database_url.endswith("/storage/database/other.sqlite")
    write("production/database", "['connections' => []]")
    assert "no connection 'sqlite'" in refusal(folder, means)


# --- Databases and stores


@means
def test_passwords_arrive_as_they_are(folder, write, means):
    write("production/database", "['default' => 'mysql']")
    rakit = effective(folder, means).config.rakit
    url = make_url(rakit.database_url)
    assert (url.drivername, url.host, url.port, url.database) == (
        "mysql",
        "127.0.0.1",
        3306,
        "shop",
    )
    assert (url.username, url.password) == ("shop@office", "p@ss/word\\'\"")
    assert rakit.database_prefix == "pre_"


@means
def test_postgresql_on_ipv6(folder, write, means):
    write("production/database", "['default' => 'pgsql']")
    url = make_url(effective(folder, means).config.rakit.database_url)
    assert (url.drivername, url.host, url.port) == ("postgresql", "::1", 5432)
    assert (url.username, url.password) == ("shop", None)


@means
def test_databases_behind_unix_sockets(folder, write, means):
    def url_of(connection):
        write("production/database", f"['default' => 'x', 'connections' => ['x' => {connection}]]")
        return make_url(effective(folder, means).config.rakit.database_url)

    url = url_of(
        "['driver' => 'mysql', 'database' => 'd', 'username' => 'u', 'unix_socket' => '/run/my.sock']"
    )
    assert (url.query["unix_socket"], url.database) == ("/run/my.sock", "d")
    url = url_of("['driver' => 'pgsql', 'host' => '/run/pg', 'database' => 'd', 'username' => 'u']")
    assert (url.query["host"], url.host, url.database) == ("/run/pg", None, "d")


@means
@pytest.mark.parametrize(
    ("connection", "message"),
    [
        ("['driver' => 'sqlsrv']", "'sqlsrv' is none"),
        ("['driver' => 'sqlite', 'database' => ':memory:']", "gone when PHP ends"),
        ("['driver' => 'pgsql', 'schema' => 'shop']", "'shop' is none"),
        ("null", "no connection 'x'"),
    ],
)
def test_database_that_can_not_be_read(folder, write, means, connection, message):
    write("production/database", f"['default' => 'x', 'connections' => ['x' => {connection}]]")
    text = refusal(folder, means)
    assert message in text
    assert text.startswith(f"{CONFIG}/production/database.php")
    assert effective(folder, means, database_url="sqlite:///x").config.rakit.database_url


@means
def test_redis_and_memcached(folder, write, means):
    write("production/session", "['driver' => 'redis']")
    assert effective(folder, means).config.rakit.redis_url == "redis://127.0.0.1:6379/3"
    write(
        "production/database",
        "['redis' => ['default' => ['host' => '::1', 'port' => '6380', 'password' => 'a/b@c']]]",
    )
    assert effective(folder, means).config.rakit.redis_url == "redis://:a%2Fb%40c@[::1]:6380/0"
    write("production/session", "['driver' => 'memcached']")
    rakit = effective(folder, means).config.rakit
    assert rakit.memcached_servers == ("127.0.0.1:11211", "unix:/run/memcached.sock")
    assert rakit.cache_key == "test"


@means
def test_store_that_is_not_used_is_not_looked_at(folder, write, means):
    write("production/database", "['redis' => ['default' => ['host' => nobody_knows()]]]")
    write("production/cache", "['memcached' => nobody_knows()]")
    # PHP evaluates a file as a whole; without it only what is needed must be known.
    if not means:
        assert effective(folder, means).config.rakit.redis_url == ""


@means
@pytest.mark.parametrize("driver", ["memory", "", "mongo"])
def test_session_driver_that_can_not_be(folder, write, means, driver):
    write("production/session", f"['driver' => '{driver}']")
    text = refusal(folder, means)
    assert f"{CONFIG}/production/session.php: rakit.session_driver" in text


@means
@pytest.mark.parametrize(
    ("model", "table"),
    [
        ("User", "users"),
        ("App\\\\Models\\\\Company", "companies"),
        ("Boss", "bosses"),
        ("Day", "days"),
    ],
)
def test_model_of_facile_names_its_table(folder, write, means, model, table):
    write("auth", f"['driver' => 'facile', 'table' => 'x', 'model' => '{model}']")
    rakit = effective(folder, means).config.rakit
    assert (rakit.auth_driver, rakit.users_table) == ("facile", table)


@means
@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ("'allowed_origins' => ['app.example']", "allowed_origins"),
        ("'ping_timeout' => 'soon'", "ping_timeout"),
        ("'logging_output' => 'printer'", "logging_output"),
    ],
)
def test_setting_of_the_wrong_kind_names_its_file(folder, write, means, setting, key):
    write("websocket", f"[{setting}]")
    assert refusal(folder, means).startswith(f"{CONFIG}/websocket.php: {key}: ")


@means
def test_key_that_is_none(folder, means):
    (folder / "key.php").write_text("<?php return 'not-a-key';")
    text = refusal(folder, means)
    assert text.startswith("key.php: rakit.key: the value is wrong")
    assert "not-a-key" not in text
    (folder / "key.php").unlink()
    assert "key.php" in refusal(folder, means)
    assert effective(folder, means, key=KEY).config.rakit.key == KEY


# --- What can't be told


def test_what_is_not_written_out_is_named_with_its_line(folder, write, monkeypatch):
    write("session", "[\n  'driver' => 'file',\n  'cookie' => getenv('COOKIE') ?: 'x',\n]")
    assert refusal(folder, "").startswith(
        f"{CONFIG}/session.php:4: getenv('COOKIE') ?: 'x' can't be told without PHP; set rakit.session_cookie"
    )
    assert effective(folder, "", session_cookie="c").config.rakit.session_cookie == "c"


@needs_php
def test_php_evaluates_it(folder, write, monkeypatch):
    write("session", "['driver' => 'file', 'cookie' => getenv('TEST_COOKIE') ?: 'x']")
    assert effective(folder).config.rakit.session_cookie == "x"
    monkeypatch.setenv("TEST_COOKIE", "theirs")
    assert effective(folder).config.rakit.session_cookie == "theirs"
    write("session", "['driver' => 'file', 'cookie' => getenv('RAKIT_WS_RAKIT_KEY') ?: 'x']")
    monkeypatch.setenv("RAKIT_WS_RAKIT_KEY", KEY)
    assert effective(folder).config.rakit.session_cookie == "x"  # ours are none of its business


@needs_php
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("throw new Exception('no secret');", "no secret"),
        ("nobody_knows();", "undefined function nobody_knows()"),
        ("return [;", "syntax error"),
        ("exit('gone');", "PHP ended while it evaluated this file"),
        ("$x = str_repeat('x', 1 << 30);", "PHP ended while it evaluated this file"),
        ("return new stdClass;", "an object of stdClass"),
        ("return function () {};", "an object of Closure"),
        ("return ['driver' => fopen('php://memory', 'r')];", "a resource"),
        ("return ['driver' => \"\\xff\"];", "Malformed UTF-8"),
        ("return 5;", "no array with keys"),
        ("shell_exec('id');", "undefined function shell_exec()"),
        ("fsockopen('127.0.0.1', 1);", "undefined function fsockopen()"),
    ],
)
def test_file_that_php_can_not_evaluate_is_named(folder, code, reason):
    (folder / CONFIG / "session.php").write_text(f"<?php\n\n{code}\n")
    (folder / CONFIG / "production/session.php").unlink()
    text = refusal(folder)
    assert text.startswith(f"{CONFIG}/session.php:")
    assert reason in text


@needs_php
def test_file_that_never_ends_is_ended(folder, monkeypatch):
    monkeypatch.setattr(php_module, "TIMEOUT_S", 0.5)
    (folder / CONFIG / "session.php").write_text("<?php for (;;) { usleep(1000); }")
    assert "no answer within 0.5 s" in refusal(folder)


@needs_php
def test_output_of_a_file_is_none_of_ours(folder):
    for name in ("session", "auth"):
        path = folder / CONFIG / f"{name}.php"
        path.write_text(
            path.read_text().replace("return", "echo '{\"files\":[]}', PHP_EOL; return")
        )
    assert effective(folder).config.rakit.session_cookie == "rakit_session"


@needs_php
def test_nothing_else_of_the_application_is_run(folder, tmp_path):
    marker = tmp_path / "ran"
    code = f"<?php file_put_contents('{marker}', __FILE__);"
    for name in (
        "index.php",
        "application/boot.php",
        "application/packages.php",
        "system/core.php",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(code)
    (folder / "vendor").mkdir()
    (folder / "vendor/autoload.php").write_text(code)
    assert effective(folder).application.means.startswith("PHP ")
    assert not marker.exists()


@needs_php
def test_php_s_own_settings_run_nothing_either(folder, tmp_path, monkeypatch):
    marker, prepended = tmp_path / "ran", tmp_path / "prepended.php"
    prepended.write_text(f"<?php touch('{marker}');")
    (tmp_path / "php.ini").write_text(
        f"auto_prepend_file={prepended}\nauto_append_file={prepended}\n"
    )
    monkeypatch.setenv("PHPRC", str(tmp_path))
    effective(folder)
    assert not marker.exists()


@needs_php
def test_paths_file_that_fails_is_named(folder):
    (folder / "paths.php").write_text("<?php\n\nthrow new Exception('nowhere');")
    assert refusal(folder).startswith("paths.php:3: nowhere")
    (folder / "paths.php").write_text("<?php exit;")
    assert "it ended in paths.php" in refusal(folder)


def test_program_that_is_no_php_is_named(folder, tmp_path):
    program = tmp_path / "php"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    text = refusal(folder, str(program))
    assert "exit code 3" in text
    assert 'rakit.php = ""' in text


def test_program_that_is_not_there_leaves_it_to_the_parser(folder):
    assert effective(folder, "no-such-php").application.means == "its literals, without PHP"


def test_parser_that_is_not_there_is_named(folder, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "tree_sitter", None)
    assert "rakit-ws[rakit]" in refusal(folder, "")


# --- Literals, beside PHP


LITERALS = [
    "'it\\'s \\n \\\\ \\x'",
    '"a\\tb\\n\\x41\\101\\u{1F600}\\$\\"\\q\\\\"',
    "'Ünï' . \"é\"",
    "['a', 'b', ['c' => ['d' => []]]]",
    "array('x' => 1, 5 => 'five', 'six', '7' => 7, 'eight')",
    "[1 => 'a', 'b', -3 => 'c']",
    "['0' => 'a', '1' => 'b']",
    "['k' => 1, 'k' => 2, /* no */ 'l' => 3, # no\n 'm' => 4, // no\n]",
    "[0x1F, 017, 0b11, 1_000, -5, +6, -0, 1.5, -1.5e3, .5]",
    "[true, FALSE, Null, TRUE]",
    "('a')",
    "'a' . 5 . 'b'",
    "path('storage') . 'x' . DS . 'y'",
    "__DIR__ . '/x'",
    "[DIRECTORY_SEPARATOR]",
]


@needs_php
@pytest.mark.parametrize("literal", LITERALS)
def test_literal_is_what_php_says(folder, write, literal):
    write("session", f"['v' => {literal}]")
    names = [f"{CONFIG}/session.php"]
    (by_php,) = Php(PHP, folder).values(names)
    assert Literals(folder).values(names) == [by_php]
    assert not isinstance(by_php["v"], Unknown)


@pytest.mark.parametrize(
    "expression",
    [
        "$x",
        '"a{$x}"',
        "'a' . $x",
        "'a' . true",
        "getenv('X')",
        "PDO::FETCH_CLASS",
        "1 + 2",
        "!true",
        "-'1'",
        "[...$x]",
        "[$k => 1]",
        "[null => 1]",
        "[true => 1]",
        "path($x)",
        "path('nowhere')",
        "env('A', 'b')",
        "<<<X\nx\nX",
        "fn() => 1",
        "new X",
        "(int) '5'",
        "'\xff'",
        "[1, 2",
    ],
)
def test_anything_else_is_unknown(folder, write, expression):
    path = folder / CONFIG / "session.php"
    path.write_bytes(f"<?php\nreturn ['v' => {expression}];".encode("latin-1"))
    (found,) = Literals(folder).values([f"{CONFIG}/session.php"])
    value = found if isinstance(found, Unknown) else found["v"]
    assert isinstance(value, Unknown)
    assert value.where == f"{CONFIG}/session.php:2"


@pytest.mark.parametrize(
    "source",
    [
        "",
        "<?php",
        "<?php if (1) { return []; } return ['a' => 1];",
        "<?php function f() {} return [];",
        "html",
        "<?php return " + "[" * 20_000,
        "<?php return " + "[" * 20_000 + "]" * 20_000 + ";",
        "<?php return [" + "'x'," * (MAX_FILE_BYTES // 4) + "];",
    ],
)
def test_file_that_is_not_one_return_is_unknown(folder, source):
    (folder / CONFIG / "session.php").write_text(source)
    (found,) = Literals(folder).values([f"{CONFIG}/session.php"])
    assert isinstance(found, Unknown)


# --- check


@pytest.fixture
def check(folder, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)

    def check():
        code = main(["check", "--rakit", str(folder)])
        return code, *capsys.readouterr()

    return check


def test_check_says_what_was_found_and_tries_it(check, folder):
    code, out, err = check()
    assert (code, err) == (0, "")
    assert f'path = "{folder}"  # --rakit' in out
    assert f'session_cookie = "rakit_session"  # {CONFIG}/session.php' in out
    assert "# environment: production (" in out
    assert "# sessions (file): can be looked up" in out
    assert "# users (table users): can be looked up" in out
    assert 'key = "(set, hidden)"  # key.php' in out
    assert KEY not in out


def test_check_fails_without_sessions(check, folder):
    shutil.rmtree(folder / "storage/sessions")
    code, _, err = check()
    assert (code, "sessions (file): " in err, "is not there" in err) == (1, True, True)


def test_check_fails_without_a_database(check, folder):
    (folder / "storage/database/application.sqlite").unlink()
    code, out, err = check()
    assert (code, "users (table users): the database" in err) == (1, True)
    assert "# sessions (file): can be looked up" in out


def test_check_fails_without_the_table_or_its_columns(check, write):
    write("auth", "['driver' => 'magic', 'table' => 'people']")
    code, _, err = check()
    assert (code, "users (table people): " in err) == (1, True)


def test_check_fails_where_a_column_is_not_there(check, monkeypatch):
    monkeypatch.setenv("RAKIT_WS_RAKIT_NAME_COLUMN", "full_name")
    code, _, err = check()
    assert (code, "no column full_name" in err) == (1, True)


def test_check_names_a_store_that_does_not_answer_and_hides_its_password(check, write):
    write("production/session", "['driver' => 'redis']")
    write(
        "production/database",
        "['redis' => ['default' => ['host' => '127.0.0.1', 'port' => 1, 'password' => 'hidden-one']]]",
    )
    code, out, err = check()
    assert (code, "sessions (redis): " in err) == (1, True)
    assert "hidden-one" not in out + err


def test_check_names_a_driver_that_no_other_program_can_read(check, write):
    write("production/session", "['driver' => 'apc']")
    code, _, err = check()
    assert (code, '"apc" keeps sessions in the memory of PHP' in err) == (2, True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ('[auth]\nsources = ["jwt"]', "jwt.secret: missing"),
        ('[auth]\nsources = ["function", "http"]', "http.url: missing"),
        ('[auth]\nsources = ["rakit"]', "rakit.key: missing"),
    ],
)
def test_check_finds_sources_that_can_not_be(tmp_path, monkeypatch, capsys, settings, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rakit_ws.toml").write_text(settings)
    assert main(["check"]) == 2
    assert message in capsys.readouterr().err


def test_check_is_content_with_sources_that_can_be(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rakit_ws.toml").write_text(
        '[auth]\nsources = ["function", "jwt", "http"]\n[jwt]\nsecret = "' + "s" * 32 + '"\n'
        '[http]\nurl = "http://127.0.0.1/me"\n'
    )
    assert main(["check"]) == 0
    assert "s" * 32 not in capsys.readouterr().out


def test_check_tries_nothing_where_rakit_is_no_source(check, monkeypatch):
    monkeypatch.setenv("RAKIT_WS_AUTH_SOURCES", "function")
    code, out, _ = check()
    assert (code, "nothing is tried" in out) == (0, True)


def test_check_of_a_folder_that_is_none_ends_with_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["check", "--rakit", "nowhere"]) == 2
    assert "nowhere: no application/config in it" in capsys.readouterr().err


# --- In a server


async def shaken(client, **headers):
    lines = [("Cookie", cookie()), *headers.items()]
    await client.send(request(headers=lines, host="chat.example:6001"))
    return (await client.read_response()).status


async def test_path_is_all_that_is_needed_to_know_who_is_logged_in(folder, serve, connect):
    server = await serve(Server(port=0, presence={"enabled": False}, rakit={"path": str(folder)}))
    await connect(server, headers=[("Cookie", cookie())])
    (client,) = server.clients.values()
    assert (client.user_id, client.name) == ("1", "Budi Santoso")


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("https://app.example", 101),  # application.url
        ("https://APP.example", 101),
        ("https://app.example:443", 101),
        ("http://chat.example:6001", 101),  # the host that is asked
        ("http://app.example", 403),
        ("https://app.example:444", 403),
        ("https://app.example.evil.example", 403),
        ("https://evil-app.example", 403),
        ("null", 403),
    ],
)
async def test_pages_of_the_application_may_act_for_its_users(
    folder, serve, dial, origin, expected
):
    server = await serve(Server(port=0, rakit={"path": str(folder)}))
    assert await shaken(await dial(server), Origin=origin) == expected


async def test_page_of_another_origin_without_a_user_is_a_guest_as_before(folder, serve, dial):
    server = await serve(Server(port=0, rakit={"path": str(folder)}))
    client = await dial(server)
    await client.send(request(headers=[("Origin", "https://elsewhere.example")]))
    assert (await client.read_response()).status == 101


async def test_reload_reads_the_application_again(folder, serve, write, tmp_path):
    file = tmp_path / "rakit_ws.toml"
    file.write_text(f'port = 0\n[rakit]\npath = "{folder}"\n')
    server = await serve(Server.from_config(file))
    assert server.config.rakit.session_lifetime == 120
    write("production/session", "['lifetime' => '30']")
    assert "rakit.session_lifetime" in server.reload().changed
    assert server.config.rakit.session_lifetime == 30


@needs_php
async def test_signal_reads_it_again_while_messages_go_on(folder, serve, connect, write, tmp_path):
    """The stand-in for PHP ends only when it may: a loop that waited for it would never say so."""
    may_end, asked = tmp_path / "may-end", tmp_path / "asked"
    program = tmp_path / "php"
    file = tmp_path / "rakit_ws.toml"
    program.write_text(f'#!/bin/sh\nexec {PHP} "$@"\n')
    program.chmod(0o755)
    file.write_text(f'port = 0\n[rakit]\npath = "{folder}"\nphp = "{program}"\n')
    server = await serve(Server.from_config(file))
    client = await connect(server)
    program.write_text(
        f'#!/bin/sh\n: > {asked}\nwhile [ ! -e {may_end} ]; do sleep 0.01; done\nexec {PHP} "$@"\n'
    )
    write("production/session", "['lifetime' => 30]")
    server._on_hangup()
    await until(asked.exists)
    await client.fence()
    assert server.config.rakit.session_lifetime == 120
    may_end.touch()
    await until(lambda: server.config.rakit.session_lifetime == 30)


@pytest.mark.parametrize("means", ["", "php"])
async def test_signal_with_a_configuration_that_can_not_be_changes_nothing(
    folder, serve, write, tmp_path, logged_errors, means
):
    file = tmp_path / "rakit_ws.toml"
    file.write_text(f'port = 0\n[rakit]\npath = "{folder}"\nphp = "{means}"\n')
    server = await serve(Server.from_config(file))
    before = server.config
    write("production/session", "nobody_knows()")
    server._on_hangup()
    server._on_hangup()
    await until(lambda: logged_errors().count("not reloaded") == 2)
    assert server.config is before
