"""config.py: options, their rules, the layers and what is said about mistakes."""

from __future__ import annotations

import dataclasses

import msgspec.toml
import pytest

from rakit_ws import layers
from rakit_ws.config import (
    Compression,
    Config,
    Presence,
    options,
    value_of,
)
from rakit_ws.errors import ConfigError
from rakit_ws.layers import load, resolve
from rakit_ws.options import literal
from rakit_ws.reference import options_reference, options_table

OPTIONS = {option.key: option for option in options()}


@pytest.fixture
def toml(tmp_path):
    """Write a TOML file; return its path."""
    path = tmp_path / "some.toml"

    def write(text):
        path.write_text(text, encoding="utf-8")
        return path

    return write


def mistake(**layers):
    """Return what load() says against these layers: one line."""
    with pytest.raises(ConfigError) as caught:
        load(**layers)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- Defaults


def test_defaults_are_those_of_the_protocol():
    config = Config()
    assert (config.host, config.port, config.path) == ("127.0.0.1", 6001, "")
    assert config.max_buffer_size == config.max_send_buffer == 1024 * 1024
    assert (config.max_connections, config.max_connections_per_ip) == (0, 0)
    assert (config.max_undecided_handshakes, config.max_channels_per_client) == (1024, 128)
    assert (config.handshake_timeout, config.close_timeout) == (10.0, 5.0)
    assert (config.ping_interval, config.ping_timeout) == (25.0, 60.0)
    assert (config.command_access, config.plain_text) == ("auto", "broadcast")
    assert config.presence == Presence(
        enabled=True,
        interval=0.1,
        max_users=1000,
        max_bytes_per_second=8 * 1024 * 1024,
        fields=("name", "email"),
    )
    assert config.compression == Compression(
        enabled=False,
        minimum_size=256,
        level=1,
        server_context_takeover=False,
        client_context_takeover=False,
        server_window_bits=15,
        client_window_bits=15,
        memory_level=8,
    )
    assert not config.compresses


def test_the_keys_of_the_framework_keep_their_names():
    framework = {
        "max_buffer_size",
        "origin_required",
        "protocol_required",
        "extensions_required",
        "allowed_origins",
        "allowed_hosts",
        "supported_protocols",
        "supported_extensions",
        "ping_timeout",
        "logging_enabled",
        "logging_output",
    }
    assert framework <= set(OPTIONS)


def test_every_default_is_allowed_and_final():
    for option in options():
        checked = option.checked(option.default, "default")
        assert (type(checked), checked) == (type(option.default), option.default)


def test_the_defaults_raise_no_suspicion():
    assert Config().warnings() == []


def test_a_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().port = 1


def test_an_integer_is_taken_for_seconds_and_a_list_for_a_tuple():
    config = Config(ping_timeout=3, supported_protocols=["chat"])
    assert repr(config.ping_timeout) == "3.0"
    assert config.supported_protocols == ("chat",)
    assert hash(config)


def test_a_config_made_in_code_is_checked_too():
    with pytest.raises(ConfigError, match="Config: port: 65536 is wrong; allowed: an integer"):
        Config(port=65_536)
    with pytest.raises(ConfigError, match="Presence: interval: -1 is wrong"):
        Presence(interval=-1)


# --- Pings


@pytest.mark.parametrize(
    ("interval", "timeout", "effective"),
    [
        (25, 60, 25),
        (25, 0, 25),  # never closed, still pinged: it keeps proxies from closing
        (0, 60, 0),  # never pinged
        (60, 60, 30),
        (25, 10, 5),
        (25, 25.5, 25),
    ],
)
def test_effective_ping_interval(interval, timeout, effective):
    config = Config(ping_interval=interval, ping_timeout=timeout)
    assert config.effective_ping_interval == effective


# --- What is allowed


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("host", "0.0.0.0"),
        ("host", "::1"),
        ("host", "fe80::1%eth0"),
        ("host", "unix:/run/ws.sock"),
        ("host", "localhost"),
        ("host", "chat_server.example.com"),
        ("port", 0),
        ("port", 65_535),
        ("path", "/"),
        ("path", "/ws/%C3%A9"),
        ("max_buffer_size", 1),
        ("max_buffer_size", 2**31 - 1),
        ("allowed_origins", ["https://example.com", "http://localhost:8000", "null"]),
        ("allowed_origins", ["https://*.example.com:8443", "https://[::1]:8443"]),
        ("allowed_origins", ["capacitor://localhost", "chrome-extension://abcdef"]),
        ("trusted_proxies", ["10.0.0.0/8", "192.0.2.1", "::1", "2001:db8::/32", "unix"]),
        ("trusted_proxies", ["0.0.0.0/0", "::/0", "::ffff:10.0.0.0/104"]),
        ("forwarding_header", "forwarded"),
        ("max_header_size", 512),
        ("max_header_size", 65_535),
        ("rate_limit", 0.5),
        ("rate_limit", 1_000_000),
        ("max_channel_name_bytes", 255),
        ("max_json_depth", 1000),
        ("allowed_hosts", ["example.com", "example.com:6001", "[::1]:6001", "127.0.0.1"]),
        ("supported_protocols", ["chat.v1", "graphql-ws", "!#$%&'*+-.^_`|~"]),
        ("operators", ["7", "admin@example.com"]),
        ("operator_token", "s3cret/+=~"),
        ("command_access", "nobody"),
        ("presence.fields", []),
        ("presence.fields", ["name", "avatar_url"]),
        ("presence.interval", 0),
        ("ping_timeout", 0),
    ],
)
def test_allowed(key, value):
    final = OPTIONS[key].checked(value, "test")
    assert final == (tuple(value) if isinstance(value, list) else value)


NO_NETWORKS = [
    "",
    "localhost",
    "10.0.0.1/8",
    "10.0.0.0/255.0.0.0",
    "10.0.0.0/33",
    "10.0.0.0/08",
    "10.0.0.1:80",
    "::1%lo",
    "[::1]",
    "UNIX",
    "1",
    "*",
]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trusted_proxies", "10.0.0.0/8"),
        *(("trusted_proxies", [network]) for network in NO_NETWORKS),
        ("forwarding_header", "x-real-ip"),
        ("max_header_size", 511),
        ("max_header_size", 65_536),
        ("max_fragments", 0),
        ("rate_limit", -0.1),
        ("rate_limit", float("nan")),
        ("rate_limit", True),
        ("rate_burst", 0),
        ("max_channel_name_bytes", 0),
        ("max_channel_name_bytes", 256),
        ("max_json_depth", 0),
        ("max_json_depth", 1001),
        ("host", ""),
        ("host", "[::1]"),
        ("host", "127.0.0.1:6001"),
        ("host", "http://localhost"),
        ("host", "unix:"),
        ("host", "local host"),
        ("host", None),
        ("port", -1),
        ("port", 65_536),
        ("port", "6001"),
        ("port", 6001.0),
        ("port", True),
        ("path", "ws"),
        ("path", "/ws?x=1"),
        ("path", "/ws#x"),
        ("path", "/a b"),
        ("max_buffer_size", 0),
        ("max_buffer_size", 2**31),
        ("max_buffer_size", "1 MiB"),
        ("max_send_buffer", 1023),
        ("max_undecided_handshakes", 0),
        ("handshake_timeout", 0),
        ("close_timeout", 0),
        ("ping_timeout", -1),
        ("ping_timeout", float("nan")),
        ("ping_timeout", float("inf")),
        ("ping_timeout", 86_401),
        ("ping_timeout", True),
        ("ping_timeout", "60"),
        ("origin_required", 1),
        ("origin_required", "yes"),
        ("allowed_origins", "https://example.com"),
        ("allowed_origins", ["example.com"]),
        ("allowed_origins", ["https://example.com/"]),
        ("allowed_origins", ["https://example.com:0"]),
        ("allowed_origins", ["https://example.com:65536"]),
        ("allowed_origins", ["https://example.com:"]),
        ("allowed_origins", ["https://*"]),
        ("allowed_origins", ["https://*example.com"]),
        ("allowed_origins", ["https://www.*.example.com"]),
        ("allowed_origins", ["https://*.*.example.com"]),
        ("allowed_origins", ["*://example.com"]),
        ("allowed_origins", ["*"]),
        ("allowed_origins", ["https://exämple.com"]),
        ("allowed_origins", ["https://user@example.com"]),
        ("allowed_origins", ["https://example.com\n"]),
        ("allowed_origins", [""]),
        ("allowed_hosts", ["http://example.com"]),
        ("allowed_hosts", ["example.com/"]),
        ("allowed_hosts", ["*.example.com"]),
        ("allowed_hosts", ["example.com:99999"]),
        ("supported_protocols", ["a b"]),
        ("supported_protocols", ["a,b"]),
        ("supported_protocols", [""]),
        ("supported_protocols", [1]),
        ("supported_extensions", ["permessage-deflate; server_no_context_takeover"]),
        ("operators", [7]),
        ("operator_token", "two words"),
        ("operator_token", "é"),
        ("command_access", "all"),
        ("command_access", ["auto"]),
        ("log_level", "INFO"),
        ("log_file", ""),
        ("log_file", "a\nb"),
        ("loop", "trio"),
        ("presence.fields", ["id"]),
        ("presence.fields", ["connected_at"]),
        ("presence.fields", ["e-mail"]),
        ("presence.max_users", -1),
    ],
)
def test_not_allowed(key, value):
    with pytest.raises(ConfigError) as caught:
        OPTIONS[key].checked(value, "some.toml")
    assert str(caught.value).startswith(f"some.toml: {key}: ")
    assert str(caught.value).endswith(f"allowed: {OPTIONS[key].kind.allowed}")


# --- Layers


def test_each_layer_wins_over_the_one_before(toml):
    file = toml("port = 2\npath = '/file'\nloop = 'asyncio'\nhost = '::1'\n")
    effective = resolve(
        base={"port": 1, "path": "/app", "log_format": "json", "host": "::"},
        file=file,
        environ={"RAKIT_WS_PORT": "3", "RAKIT_WS_HOST": "127.0.0.2"},
        flags={"port": "4", "host": None, "log_level": None},
    )
    config = effective.config
    assert (config.port, config.path, config.loop) == (4, "/file", "asyncio")
    assert (config.host, config.log_format, config.log_level) == ("127.0.0.2", "json", "info")
    assert effective.sources == {
        "port": "--port",
        "path": str(file),
        "loop": str(file),
        "host": "RAKIT_WS_HOST",
        "log_format": "Server(...)",
    }


def test_a_table_is_laid_over_key_by_key(toml):
    config = load(
        base={"presence": {"interval": 1, "max_users": 5}},
        file=toml("[presence]\ninterval = 2.5\n"),
        environ={"RAKIT_WS_PRESENCE_FIELDS": "name"},
    )
    assert config.presence == Presence(interval=2.5, max_users=5, fields=("name",))


def test_without_layers_all_is_default():
    assert resolve() == layers.Effective(Config(), {})


def test_a_file_may_set_everything(toml):
    lines = [f"{option.key} = {literal(option.default)}\n" for option in options()]
    assert load(file=toml("".join(lines))) == Config()


def test_a_file_with_a_byte_order_mark_is_read(toml):
    assert load(file=toml("\ufeffport = 7\n")).port == 7


def test_other_environment_variables_do_not_count():
    assert load(environ={"PORT": "1", "rakit_ws_port": "2", "RAKIT_WS": "3"}) == Config()


@pytest.mark.parametrize(
    ("variable", "text", "key", "value"),
    [
        ("RAKIT_WS_MAX_BUFFER_SIZE", "2048", "max_buffer_size", 2048),
        ("RAKIT_WS_PING_TIMEOUT", "0", "ping_timeout", 0.0),
        ("RAKIT_WS_PING_TIMEOUT", "1.5", "ping_timeout", 1.5),
        ("RAKIT_WS_OPERATORS", "7, admin@example.com,", "operators", ("7", "admin@example.com")),
        ("RAKIT_WS_OPERATORS", "", "operators", ()),
        ("RAKIT_WS_PATH", "", "path", ""),
        ("RAKIT_WS_PRESENCE_INTERVAL", "2", "presence.interval", 2.0),
        *[("RAKIT_WS_ORIGIN_REQUIRED", text, "origin_required", True)
          for text in ("true", "1", "yes", "on", "True", "ON")],
        *[("RAKIT_WS_LOGGING_ENABLED", text, "logging_enabled", False)
          for text in ("false", "0", "no", "off", "No")],
    ],
)  # fmt: skip
def test_environment_variables_are_read_as_the_type_that_is_due(variable, text, key, value):
    config = load(environ={variable: text})
    assert value_of(config, key) == value


def test_every_option_has_a_variable_of_its_own():
    assert len({option.variable for option in options()}) == len(options())


def test_default_file_is_the_one_in_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert layers.default_file() is None
    (tmp_path / "rakit_ws.toml").write_text("port = 7000\n")
    assert load(file=layers.default_file()).port == 7000


# --- Mistakes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("prot = 1", '{file}: unknown key "prot"; the nearest known one is port'),
        ("[presense]\ninterval = 1", '"presense"; the nearest known one is presence'),
        ("[presence]\nintervall = 1", '"presence.intervall"; the nearest known one is presence.interval'),
        ("[presence]\nport = 1", '"presence.port"; the nearest known one is port'),
        ('"a\\nb" = 1', 'unknown key "a\\nb"; the nearest known one is'),
        ("port = 'x'", '{file}: port: "x" is wrong; allowed: an integer from 0 to 65535'),
        ("port = {a = 1}", "port: {{ a = 1 }} is wrong; allowed: an integer"),
        ("port = true", "port: true is wrong; allowed: an integer"),
        ("port = 1979-05-27", "port: datetime.date(1979, 5, 27) is wrong"),
        ("ping_timeout = nan", "ping_timeout: nan is wrong; allowed: a number of seconds"),
        ("max_buffer_size = '1M'", 'max_buffer_size: "1M" is wrong; allowed: an integer from 1'),
        ("presence = 5", "{file}: presence: 5 is wrong; allowed: a table"),
        ("[presence]\nenabled = 1", "{file}: presence.enabled: 1 is wrong; allowed: true or false"),
        ("allowed_origins = ['https://a.b', 'c.d']", 'allowed_origins: "c.d" is wrong; allowed: a list of'),
        ("operators = [1]", "operators: 1 is wrong; allowed: a list of user ids"),
        ("loop = 'trio'", 'loop: "trio" is wrong; allowed: "uvloop" or "asyncio"'),
        ("port = 1\nhost = \n", "{file}: not TOML: Invalid value (at line 2"),
        ("port = 1\nport = 2\n", "{file}: not TOML: Cannot overwrite a value (at line 2"),
        ("port = " + "9" * 5000, "{file}: not TOML: "),
    ],
)  # fmt: skip
def test_mistakes_in_a_file(toml, text, expected):
    file = toml(text)
    assert expected.format(file=file) in mistake(file=file)


def test_a_file_that_is_not_there(tmp_path):
    path = tmp_path / "none.toml"
    assert mistake(file=path) == f"{path}: can't be read: No such file or directory"


def test_a_directory_for_a_file(tmp_path):
    assert mistake(file=tmp_path) == f"{tmp_path}: can't be read: Is a directory"


def test_a_file_that_is_not_utf8(tmp_path):
    path = tmp_path / "latin.toml"
    path.write_bytes(b"path = '/\xe9'\n")
    assert f"{path}: not TOML: 'utf-8' codec" in mistake(file=path)


def test_mistakes_in_the_environment():
    assert mistake(environ={"RAKIT_WS_PORTT": "1"}) == (
        "RAKIT_WS_PORTT: unknown environment variable; the nearest known one is RAKIT_WS_PORT"
    )
    assert mistake(environ={"RAKIT_WS_PORT": "tcp://10.0.0.1:6001"}) == (
        'RAKIT_WS_PORT: port: "tcp://10.0.0.1:6001" is wrong; allowed: an integer from 0 to 65535'
    )
    assert 'RAKIT_WS_ORIGIN_REQUIRED: origin_required: "maybe" is wrong; allowed: true or' in (
        mistake(environ={"RAKIT_WS_ORIGIN_REQUIRED": "maybe"})
    )
    assert 'allowed_origins: "b" is wrong' in (
        mistake(environ={"RAKIT_WS_ALLOWED_ORIGINS": "https://a,b"})
    )


def test_mistakes_in_flags_and_in_the_app():
    assert mistake(flags={"log_level": "loud"}) == (
        '--log-level: log_level: "loud" is wrong; '
        'allowed: "debug" or "info" or "warning" or "error"'
    )
    assert mistake(base={"prot": 1}) == (
        'Server(...): unknown key "prot"; the nearest known one is port'
    )
    assert mistake(base={"presence": []}) == "Server(...): presence: [] is wrong; allowed: a table"


def test_a_mistake_shows_even_where_a_later_layer_would_win(toml):
    assert "port" in mistake(file=toml("port = -1"), flags={"port": "1"})


def test_long_and_unprintable_values_are_shown_on_one_short_line(toml):
    message = mistake(base={"host": "a\n\x1b\u202e\x9b" + "x" * 5000})
    assert 'host: "a\\n\\u001b\\u202e\\u009bxxx' in message
    assert len(message) < 300


# --- Secrets


def test_the_operator_token_is_never_shown():
    config = Config(operator_token="hush-hush")
    assert "hush" not in repr(config)
    assert "hush" not in mistake(environ={"RAKIT_WS_OPERATOR_TOKEN": "hush hush"})
    assert "hush" not in mistake(base={"operator_token": ["hush"]})
    assert not any("hush" in warning for warning in config.warnings())


# --- Suspicions


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"supported_extensions": ["permessage-deflat"]}, "permessage-deflat does not exist"),
        ({"extensions_required": True}, "extensions_required without"),
        ({"protocol_required": True}, "protocol_required without"),
        ({"max_send_buffer": 65_536}, "max_send_buffer is below max_buffer_size"),
        ({"ping_timeout": 10}, "pings after 5 s"),
        ({"command_access": "everyone", "host": "0.0.0.0"}, "command_access is everyone"),
        ({"command_access": "everyone", "host": "chat.example.com"}, "command_access is everyone"),
        ({"command_access": "operators"}, "nobody may give commands"),
        ({"operator_token": "short"}, "operator_token is shorter"),
        ({"presence": Presence(fields=("name", "password"))}, "tells everybody password"),
    ],
)
def test_what_is_probably_not_meant_is_said(settings, expected):
    (warning,) = Config(**settings).warnings()
    assert expected in warning


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "unix:/run/ws.sock"])
def test_everyone_may_give_commands_on_loopback(host):
    assert Config(command_access="everyone", host=host).warnings() == []


# --- Documentation


def test_every_limit_is_documented():
    for option in options():
        assert option.about, option.key
        if isinstance(option.default, (int, float)) and not isinstance(option.default, bool):
            notes = [option.zero, option.precedent]
            if option.key != "port":
                notes += [option.unit, option.cost, option.reached]
            assert all(notes), option.key


def test_the_table_has_a_line_for_each_option():
    head, rule, *lines = options_table().splitlines()
    assert head.count("|") == rule.count("|")
    assert len(lines) == len(options())
    for option, line in zip(options(), lines, strict=True):
        assert line.startswith(f"| `{option.key}` | `")
        assert line.count("|") == head.count("|")


def test_the_reference_has_a_section_for_each_option():
    text = options_reference()
    assert [line[4:-1] for line in text.splitlines() if line.startswith("## ")] == list(OPTIONS)
    assert "`RAKIT_WS_PRESENCE_MAX_USERS`" in text


@pytest.mark.parametrize(
    "value", [True, 0, 2**31 - 1, 0.1, 1e-05, "", 'a "b" \\ c', "é\u202e\x7f\U000e0001", ("a", "b"), ()]
)  # fmt: skip
def test_literal_is_toml(value):
    expected = list(value) if isinstance(value, tuple) else value
    assert msgspec.toml.decode(f"x = {literal(value)}") == {"x": expected}
