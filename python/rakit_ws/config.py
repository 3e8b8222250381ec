"""
The configuration: what can be set, to what, and where a value came from.

Layers, each over the one before: defaults, the app's own settings (`Server(...)`), a TOML
file, `RAKIT_WS_…` environment variables, command line flags. Every option carries its
documentation as data; README's table and `docs/options.md` are made from it.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from ipaddress import ip_address
from operator import attrgetter
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar

import msgspec.toml

from rakit_ws.errors import ConfigError

T = TypeVar("T")

FILE_NAME = "rakit_ws.toml"
VARIABLE_PREFIX = "RAKIT_WS_"

# Counts and sizes fit a C int on every platform. No browser holds a message near 2 GiB as
# one string, so a larger size is a slip of the finger.
_LARGEST = 2**31 - 1
_DAY_S = 86_400.0
_MAX_SHOWN_CHARS = 80


# --- What an option may be set to -----------------------------------------------------------


class NotAllowedError(ValueError):
    """Carries the value, or the one item of a list, that a kind of option does not take."""

    def __init__(self, value: object) -> None:
        super().__init__(value)
        self.value = value


@dataclass(frozen=True)
class Kind:
    """Which values an option takes."""

    allowed: str
    """What may stand there, in words that complete "allowed: …"."""
    parse: Callable[[str], object]
    """From the text of a variable or flag to a value yet to be checked; else ValueError."""
    check: Callable[[object], object]
    """To the final type, or NotAllowedError."""


def integer(minimum: int, maximum: int = _LARGEST) -> Kind:
    """Take a whole number; a boolean is none."""

    def check(value: object) -> int:
        if type(value) is not int or not minimum <= value <= maximum:
            raise NotAllowedError(value)
        return value

    return Kind(f"an integer from {minimum} to {maximum}", int, check)


def seconds(minimum: float, maximum: float = _DAY_S) -> Kind:
    """Take a time; neither infinite nor NaN."""

    def check(value: object) -> float:
        # A boolean is an int to isinstance(), but no time.
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise NotAllowedError(value)
        if not minimum <= value <= maximum:
            raise NotAllowedError(value)
        return float(value)

    return Kind(f"a number of seconds from {minimum:g} to {maximum:g}", float, check)


def boolean() -> Kind:
    """Take true or false; in variables and flags also the words that people use for them."""
    words = {
        **dict.fromkeys(("true", "1", "yes", "on"), True),
        **dict.fromkeys(("false", "0", "no", "off"), False),
    }

    def check(value: object) -> bool:
        if not isinstance(value, bool):
            raise NotAllowedError(value)
        return value

    allowed = "true or false (in the environment also 1, 0, yes, no, on, off)"
    return Kind(allowed, lambda text: words.get(text.strip().lower(), text), check)


def string(allowed: str, rule: Callable[[str], bool]) -> Kind:
    """Take a string that `rule` accepts."""

    def check(value: object) -> str:
        if not isinstance(value, str) or not rule(value):
            raise NotAllowedError(value)
        return value

    return Kind(allowed, str, check)


def choice(*words: str) -> Kind:
    """Take one of `words`."""
    return string(" or ".join(map(literal, words)), words.__contains__)


def names(items: str, rule: Callable[[str], bool]) -> Kind:
    """Take a list of strings that `rule` accepts one by one; comma separated in variables."""
    item_kind = string(items, rule)

    def check(value: object) -> tuple[object, ...]:
        if not isinstance(value, (list, tuple)):
            raise NotAllowedError(value)
        return tuple(map(item_kind.check, value))

    def parse(joined: str) -> list[str]:
        return [item.strip() for item in joined.split(",") if item.strip()]

    return Kind(f"a list of {items}", parse, check)


def literal(value: object) -> str:
    """`value` as a TOML file would write it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return "".join(map(_visible, json.dumps(value, ensure_ascii=False)))
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(literal, value)) + "]"
    return repr(value)


def _visible(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


# --- The rules for strings ------------------------------------------------------------------

_NAME = r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*"
_PORT = r"(?::(?P<port>[0-9]{1,5}))?"
_HOST_HEADER = re.compile(rf"(?:{_NAME}|\[[0-9A-Fa-f:.]+\]){_PORT}")
_ORIGIN = re.compile(rf"[A-Za-z][A-Za-z0-9+.-]*://(?:(?:\*\.)?{_NAME}|\[[0-9A-Fa-f:.]+\]){_PORT}")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 7230 §3.2.6


def is_listen_host(text: str) -> bool:
    """Whether a server can be asked to listen there; names are not resolved here."""
    if text.startswith("unix:"):
        return len(text) > len("unix:") and text.isprintable()
    if ":" in text:
        return is_address(text)
    return re.fullmatch(r"[\w-]+(?:\.[\w-]+)*\.?", text) is not None


def is_address(text: str) -> bool:
    """Whether `text` is an IPv4 or IPv6 address, without brackets and port."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_origin(text: str) -> bool:
    """Whether `text` is an origin (RFC 6454 §6.1), perhaps with `*.` as its leading labels."""
    return text == "null" or _has_valid_port(_ORIGIN.fullmatch(text))


def is_host_header(text: str) -> bool:
    """Whether `text` is the value of a Host header (RFC 7230 §5.4)."""
    return _has_valid_port(_HOST_HEADER.fullmatch(text))


def _has_valid_port(match: re.Match[str] | None) -> bool:
    return match is not None and 1 <= int(match["port"] or 1) <= 65_535


def is_request_path(text: str) -> bool:
    """Whether `text` is empty or the path of a request target, as it comes over the wire."""
    return text == "" or re.fullmatch(r"/[!-\"$->@-~]*", text) is not None


def is_token(text: str) -> bool:
    """Whether `text` is a token (RFC 7230 §3.2.6), as names of subprotocols are."""
    return _TOKEN.fullmatch(text) is not None


def is_secret(text: str) -> bool:
    """Whether `text` is empty or can stand in an Authorization header."""
    return re.fullmatch(r"[!-~]*", text) is not None


def is_line(text: str) -> bool:
    """Whether `text` is something, on one line, without control characters."""
    return text != "" and text.isprintable()


def is_user_column(text: str) -> bool:
    """Whether presence can send a column `text` beside the two that it always sends."""
    return text.isidentifier() and text not in {"id", "connected_at"}


# --- The options ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Option:
    """One thing that can be set, and what there is to know about it."""

    key: str
    """As in TOML; `presence.interval` is `interval` in the table `[presence]`."""
    default: object
    kind: Kind
    about: str
    unit: str = ""
    zero: str = ""
    """What zero, or nothing, means."""
    cost: str = ""
    reached: str = ""
    """What happens when the limit is reached."""
    precedent: str = ""
    """Whose defaults the default follows."""
    secret: bool = False

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return VARIABLE_PREFIX + self.key.upper().replace(".", "_")

    def parsed(self, text: str, source: str) -> object:
        """Read the value out of the `text` of a variable or flag; else ConfigError."""
        try:
            value = self.kind.parse(text)
        except ValueError:
            raise self._refusal(text, source) from None
        return self.checked(value, source)

    def checked(self, value: object, source: str) -> object:
        """`value` in its final type; ConfigError if it is none that is allowed."""
        try:
            return self.kind.check(value)
        except NotAllowedError as fault:
            raise self._refusal(fault.value, source) from None

    def _refusal(self, value: object, source: str) -> ConfigError:
        shown = "the value" if self.secret else literal(value)
        if len(shown) > _MAX_SHOWN_CHARS:
            shown = shown[:_MAX_SHOWN_CHARS] + "…"
        return ConfigError(f"{source}: {self.key}: {shown} is wrong; allowed: {self.kind.allowed}")


def option(about: str, kind: Kind, *, default: T, **notes: Any) -> T:
    """Declare a field of a table of settings; `notes` are the further fields of Option."""
    declared = Option(key="", default=default, kind=kind, about=about, **notes)
    # A dataclass field, which type checkers take for its default.
    return field(default=default, repr=not declared.secret, metadata={"option": declared})


@dataclass(frozen=True, kw_only=True)
class _Table:
    """Settings that are right, whoever made them."""

    def __post_init__(self) -> None:
        for declared in _declared(type(self)):
            value = declared.checked(getattr(self, declared.key), type(self).__name__)
            object.__setattr__(self, declared.key, value)


@dataclass(frozen=True, kw_only=True)
class Presence(_Table):
    """The table `[presence]`: who is told of whom, and how much that may cost."""

    enabled: bool = option(
        "tell every client who is connected whenever someone comes or goes",
        boolean(),
        default=True,
        cost="quadratic in the number of clients, therefore bounded by the keys below",
    )
    interval: float = option(
        "changes within this time share one presence",
        seconds(0, 3600),
        default=0.1,
        unit="seconds",
        zero="every batch of changes is told at once",
        cost="a change is seen this much later",
        reached="the next presence goes out",
        precedent="0.1 s is felt as at once (Nielsen, Response Times, 1993)",
    )
    max_users: int = option(
        "most users listed in one presence",
        integer(0),
        default=1000,
        unit="users",
        zero="only `count` is told",
        cost="about 100 bytes a user, to every client",
        reached="the list is cut to the newest; `count` still tells all",
        precedent="Pusher Channels refuses the 101st member; here a list only gets shorter",
    )
    max_bytes_per_second: int = option(
        "most that presence may send, to all clients together",
        integer(0),
        default=8 * 1024 * 1024,
        unit="bytes a second",
        zero="no limit",
        cost="none; it is what keeps presence from stalling messages",
        reached="the interval stretches, so that presences get rarer",
        precedent="a fifteenth of a gigabit link",
    )
    fields: tuple[str, ...] = option(
        "columns of the user that everybody may see",
        names("column names, without id and connected_at, which always go", is_user_column),
        default=("name", "email"),
        zero="only `id` and `connected_at` go out",
        cost="their size, for each user listed",
    )


@dataclass(frozen=True, kw_only=True)
class Config(_Table):
    """
    Everything that can be set, checked and final.

    Raises:
        ConfigError: a value is not allowed; names key, value and what is.

    """

    host: str = option(
        'where to listen: an address, a name, or "unix:/path" for a Unix socket',
        string('an IPv4 or IPv6 address (no brackets), a name, or "unix:/path"', is_listen_host),
        default="127.0.0.1",
        zero="not allowed; all addresses are 0.0.0.0 or ::",
    )
    port: int = option(
        "TCP port to listen on; without meaning for a Unix socket",
        integer(0, 65_535),
        default=6001,
        zero="the system picks a free one, which start-up prints",
        precedent="the PHP reference; also Laravel's Echo server and Soketi",
    )
    path: str = option(
        "the only path on which handshakes are accepted",
        string('empty, or a path that begins with "/", without query', is_request_path),
        default="",
        zero="any path",
    )

    max_buffer_size: int = option(
        "largest message taken from a client, after reassembly and inflation",
        integer(1),
        default=1024 * 1024,
        unit="bytes",
        zero="not allowed",
        cost="up to this much memory for each connection that is sending",
        reached="the connection is closed with 1009 before the excess is buffered",
        precedent="websockets 1 MiB, aiohttp 4 MiB, uWebSockets 16 KiB",
    )
    max_send_buffer: int = option(
        "most that is queued for one client that reads too slowly",
        integer(1024),
        default=1024 * 1024,
        unit="bytes",
        zero="not allowed",
        cost="up to this much memory for each slow client",
        reached="the client is closed with 1013",
        precedent="Centrifugo 1 MiB, uWebSockets 64 KiB",
    )
    max_connections: int = option(
        "most connections at a time",
        integer(0),
        default=0,
        unit="connections",
        zero="as many as the descriptor limit (`ulimit -n`) allows",
        cost="a few kB for each idle connection",
        reached="further handshakes are answered 503 with Retry-After",
        precedent="HAProxy's maxconn follows the descriptor limit likewise",
    )
    max_connections_per_ip: int = option(
        "most connections at a time from one address; IPv6 is counted by /64",
        integer(0),
        default=0,
        unit="connections",
        zero="no limit: behind a proxy all clients share one address",
        cost="one entry of a table for each address",
        reached="further handshakes from there are answered 503 with Retry-After",
        precedent="nginx's limit_conn is off by default too",
    )
    max_undecided_handshakes: int = option(
        "most handshakes that wait for a `connect` hook to decide",
        integer(1),
        default=1024,
        unit="handshakes",
        zero="not allowed",
        cost="up to 16 KiB of request headers for each",
        reached="further handshakes are answered 503 with Retry-After",
        precedent="OpenSSH's MaxStartups (100) bounds the same for logins",
    )
    max_channels_per_client: int = option(
        "most channels that one client may hear",
        integer(0),
        default=128,
        unit="channels",
        zero="no client may subscribe; code still can subscribe it",
        cost="one entry of a table for each subscription",
        reached="subscribing is answered with the error `too_many_channels`",
        precedent="Centrifugo 128",
    )

    handshake_timeout: float = option(
        "time for a connection to complete its handshake",
        seconds(0.01),
        default=10.0,
        unit="seconds",
        zero="not allowed",
        cost="a silent connection holds its descriptor for this long",
        reached="408, and the connection ends",
        precedent="websockets 10 s",
    )
    ping_interval: float = option(
        "a Ping goes out when nothing arrived for this long",
        seconds(0),
        default=25.0,
        unit="seconds",
        zero="never ping; a client that is silent by nature then meets `ping_timeout`",
        cost="two frames of a few bytes for each silent client",
        reached="a Ping; where this is not below `ping_timeout`, after half of that",
        precedent="Centrifugo 25 s, Socket.IO 25 s, websockets 20 s",
    )
    ping_timeout: float = option(
        "the connection is closed when nothing at all arrived for this long",
        seconds(0),
        default=60.0,
        unit="seconds",
        zero="never",
        cost="a client that vanished is in presence for this long",
        reached="the client is closed with 4008",
        precedent="nginx's proxy_read_timeout, which would end it then, is 60 s",
    )
    close_timeout: float = option(
        "time for the client to answer a Close, and for queues to drain at a stop",
        seconds(0.01),
        default=5.0,
        unit="seconds",
        zero="not allowed",
        cost="a stop takes up to this long",
        reached="the socket is aborted",
        precedent="websockets and aiohttp 10 s; half of it, since a stop waits for it",
    )

    origin_required: bool = option(
        "refuse handshakes without Origin (403)",
        boolean(),
        default=False,
        cost="clients that are no browsers must send one",
    )
    protocol_required: bool = option(
        "refuse handshakes without a common subprotocol (400)",
        boolean(),
        default=False,
    )
    extensions_required: bool = option(
        "refuse handshakes without a common extension (400)",
        boolean(),
        default=False,
    )
    allowed_origins: tuple[str, ...] = option(
        'the only origins accepted (else 403); `"https://*.example.com"` takes its subdomains',
        names(
            'origins: scheme://host[:port] without a path, "*." only in front of the host, or "null"',
            is_origin,
        ),
        default=(),
        zero="any origin, but with a session cookie only the request's own host",
    )
    allowed_hosts: tuple[str, ...] = option(
        "the only values of Host accepted (else 400)",
        names("hosts as in the Host header: name or address[:port]", is_host_header),
        default=(),
        zero="any host",
    )
    supported_protocols: tuple[str, ...] = option(
        "subprotocols spoken; the first of the client's list that is here is chosen",
        names("subprotocol names: RFC 7230 tokens", is_token),
        default=(),
        zero="none is chosen",
    )
    supported_extensions: tuple[str, ...] = option(
        "extensions to negotiate; none exists yet, so that names here only warn",
        names("extension names: RFC 7230 tokens", is_token),
        default=(),
        zero="none",
    )

    command_access: Literal["auto", "operators", "everyone", "nobody"] = option(
        "who may give commands: `operators`, `everyone`, `nobody`; `auto` is everyone while the "
        "server is on loopback only and no proxy is between, else operators",
        choice("auto", "operators", "everyone", "nobody"),
        default="auto",
    )
    operators: tuple[str, ...] = option(
        "users who may give commands, by id or e-mail",
        names("user ids or e-mail addresses, as strings", is_line),
        default=(),
        zero="no user; the token still works",
    )
    operator_token: str = option(
        "whoever presents it is an operator; never printed nor logged",
        string("visible ASCII characters without blanks", is_secret),
        default="",
        zero="no token makes an operator",
        secret=True,
    )
    welcome: bool = option(
        "greet each client with its `client_id`; off, for servers whose hooks do everything",
        boolean(),
        default=True,
        cost="about 80 bytes for each connection",
    )
    plain_text: Literal["broadcast", "reject"] = option(
        "text that is no object of the protocol: `broadcast` it, or `reject` it as `bad_request`",
        choice("broadcast", "reject"),
        default="broadcast",
    )

    logging_enabled: bool = option(
        "log; if false nothing below error, and errors to standard error",
        boolean(),
        default=True,
        cost="about 20 µs for a line: one each for connect and disconnect at info",
    )
    logging_output: Literal["stdout", "file"] = option(
        "where the log goes: `stdout` or `file`",
        choice("stdout", "file"),
        default="stdout",
    )
    log_file: str = option(
        'the file of `logging_output = "file"`; reopened when rotated from outside',
        string("the path of a file", is_line),
        default="rakit_ws.log",
        zero="not allowed",
        cost="grows without bound: rotate it",
    )
    log_format: Literal["text", "json"] = option(
        "a line for each event: `text`, or a `json` object",
        choice("text", "json"),
        default="text",
    )
    log_level: Literal["debug", "info", "warning", "error"] = option(
        "the least severe events that are logged: `debug`, `info`, `warning`, `error`",
        choice("debug", "info", "warning", "error"),
        default="info",
        cost="debug shows payloads, and costs more than handling them",
    )
    loop: Literal["uvloop", "asyncio"] = option(
        "the event loop that `run` starts: `uvloop` or `asyncio`",
        choice("uvloop", "asyncio"),
        default="uvloop",
    )

    presence: Presence = field(default_factory=Presence)

    @property
    def effective_ping_interval(self) -> float:
        """Seconds of silence before a Ping, early enough to be answered; 0: never."""
        if 0 < self.ping_timeout <= self.ping_interval:
            return self.ping_timeout / 2
        return self.ping_interval

    def warnings(self) -> list[str]:
        """List what is allowed but probably not meant, one line each."""
        return [text for applies, text in _suspicions(self) if applies]


EXTENSIONS: frozenset[str] = frozenset()
"""The extensions that exist. permessage-deflate will be the first."""

_TABLES: Mapping[str, type[_Table]] = {"presence": Presence}
_NOTHING: Mapping[str, Any] = MappingProxyType({})


def _suspicions(config: Config) -> Iterator[tuple[bool, str]]:
    unknown = [name for name in config.supported_extensions if name not in EXTENSIONS]
    common = EXTENSIONS.intersection(config.supported_extensions)
    private = {"password", "remember_token", "api_token"}.intersection(config.presence.fields)
    yield bool(unknown), f"supported_extensions: {', '.join(unknown)} does not exist here: ignored"
    yield (
        config.extensions_required and not common,
        "extensions_required without a supported extension: nobody can connect",
    )
    yield (
        config.protocol_required and not config.supported_protocols,
        "protocol_required without supported_protocols: nobody can connect",
    )
    yield (
        config.max_send_buffer < config.max_buffer_size,
        "max_send_buffer is below max_buffer_size: the largest message disconnects its receivers",
    )
    yield (
        config.effective_ping_interval != config.ping_interval,
        f"ping_interval is not below ping_timeout: pings after {config.effective_ping_interval:g} s",
    )
    yield (
        config.command_access == "everyone" and not _is_loopback(config.host),
        "command_access is everyone on an address that others can reach",
    )
    yield (
        config.command_access == "operators" and not (config.operators or config.operator_token),
        "command_access is operators, and there are none: nobody may give commands",
    )
    yield (
        0 < len(config.operator_token) < 16,
        "operator_token is shorter than 16 characters: it can be guessed",
    )
    yield bool(private), f"presence.fields tells everybody {', '.join(sorted(private))}"


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.startswith("unix:"):
        return True
    return is_address(host) and ip_address(host).is_loopback


# --- Where values come from -----------------------------------------------------------------


@dataclass(frozen=True)
class Effective:
    """A configuration, and for each key that some layer set the name of that layer."""

    config: Config
    sources: Mapping[str, str]


@dataclass(frozen=True)
class _Setting:
    key: str
    value: object
    source: str


def load(
    *,
    base: Mapping[str, Any] = _NOTHING,
    file: Path | None = None,
    environ: Mapping[str, str] = _NOTHING,
    flags: Mapping[str, str | None] = _NOTHING,
) -> Config:
    """Return the configuration of `resolve()`, without the sources."""
    return resolve(base=base, file=file, environ=environ, flags=flags).config


def resolve(
    *,
    base: Mapping[str, Any] = _NOTHING,
    file: Path | None = None,
    environ: Mapping[str, str] = _NOTHING,
    flags: Mapping[str, str | None] = _NOTHING,
) -> Effective:
    """
    Lay later layers over earlier ones; return the configuration, and who set what.

    `base` has keys as in TOML, tables as mappings. `file` must exist (see `default_file()`).
    Of `environ` all that begins with RAKIT_WS_ counts. `flags` are texts by key; None is a
    flag that was not given.

    Raises:
        ConfigError: an unknown key or a wrong value in any layer, even where a later layer
            would win; the file can't be read or is not TOML.

    """
    values = {declared.key: declared.default for declared in options()}
    sources: dict[str, str] = {}
    for layer in (
        _from_mapping(base, "Server(...)"),
        _from_file(file) if file else (),
        _from_environ(environ),
        _from_flags(flags),
    ):
        for setting in layer:
            values[setting.key] = setting.value
            sources[setting.key] = setting.source
    return Effective(_built(values), sources)


def default_file() -> Path | None:
    """`rakit_ws.toml` of the working directory, if there is one."""
    path = Path(FILE_NAME)
    return path if path.exists() else None


def _from_mapping(settings: Mapping[str, Any], source: str) -> Iterator[_Setting]:
    for key, value in _flattened(settings, source):
        yield _Setting(key, _known(key, source).checked(value, source), source)


def _from_file(path: Path) -> Iterator[_Setting]:
    return _from_mapping(_toml(path), str(path))


def _from_environ(environ: Mapping[str, str]) -> Iterator[_Setting]:
    by_variable = {declared.variable: declared for declared in options()}
    for name in sorted(name for name in environ if name.startswith(VARIABLE_PREFIX)):
        declared = by_variable.get(name)
        if declared is None:
            raise ConfigError(
                f"{name}: unknown environment variable; the nearest known one is "
                f"{_nearest(name, by_variable)}"
            )
        yield _Setting(declared.key, declared.parsed(environ[name], name), name)


def _from_flags(flags: Mapping[str, str | None]) -> Iterator[_Setting]:
    for key, text in flags.items():
        if text is not None:
            source = "--" + key.replace("_", "-")
            yield _Setting(key, _known(key, source).parsed(text, source), source)


def _flattened(settings: Mapping[str, Any], source: str) -> Iterator[tuple[str, object]]:
    for key, value in settings.items():
        if key not in _TABLES:
            yield key, value
        elif isinstance(value, Mapping):
            yield from ((f"{key}.{inner}", item) for inner, item in value.items())
        else:
            raise ConfigError(f"{source}: {key}: {literal(value)} is wrong; allowed: a table")


def _toml(path: Path) -> dict[str, Any]:
    try:
        return msgspec.toml.decode(path.read_text("utf-8-sig"), type=dict[str, Any])
    except OSError as fault:
        raise ConfigError(f"{path}: can't be read: {fault.strerror}") from None
    # Faults of syntax say their line. ValueError: not UTF-8, an integer of 5,000 digits.
    except (msgspec.DecodeError, ValueError) as fault:
        raise ConfigError(f"{path}: not TOML: {fault}") from None


def _built(values: Mapping[str, object]) -> Config:
    arguments: dict[str, Any] = {key: value for key, value in values.items() if "." not in key}
    for name, table in _TABLES.items():
        inner = {item.name: values[f"{name}.{item.name}"] for item in fields(table)}
        arguments[name] = table(**inner)
    return Config(**arguments)


def _known(key: str, source: str) -> Option:
    by_key = {declared.key: declared for declared in options()}
    if key not in by_key:
        nearest = _nearest(key, [*by_key, *_TABLES])
        raise ConfigError(
            f"{source}: unknown key {literal(key)}; the nearest known one is {nearest}"
        )
    return by_key[key]


def _nearest(name: str, known: Iterable[str]) -> str:
    candidates = list(known)
    # In TOML a key below a table's header belongs to the table: `presence.port` means `port`.
    inner = name.rpartition(".")[2]
    if inner in candidates:
        return inner
    return difflib.get_close_matches(name, candidates, n=1, cutoff=0.0)[0]


# --- The documentation ----------------------------------------------------------------------


@cache
def options() -> tuple[Option, ...]:
    """All options, in the order in which they are declared, with dotted keys."""
    inner = (
        replace(declared, key=f"{name}.{declared.key}")
        for name, table in _TABLES.items()
        for declared in _declared(table)
    )
    return (*_declared(Config), *inner)


def _declared(table: type[_Table]) -> tuple[Option, ...]:
    return tuple(
        replace(item.metadata["option"], key=item.name)
        for item in fields(table)
        if "option" in item.metadata
    )


def value_of(config: Config, key: str) -> object:
    """Look up a dotted key."""
    return attrgetter(key)(config)


def options_table() -> str:
    """Write README's table: a line of Markdown for each option."""
    head = "| Key | Default | Unit | What it is |\n|---|---|---|---|\n"
    return head + "".join(
        f"| `{each.key}` | `{literal(each.default)}` | {each.unit} | {each.about} |\n"
        for each in options()
    )


def options_reference() -> str:
    """Write `docs/options.md`: everything there is to know about each option."""
    return "# Options\n\n" + "\n".join(map(_section, options()))


def _section(described: Option) -> str:
    facts = {
        "Default": f"`{literal(described.default)}`",
        "Allowed": described.kind.allowed,
        "Unit": described.unit,
        "Zero or empty": described.zero,
        "When reached": described.reached,
        "Cost": described.cost,
        "Precedent": described.precedent,
        "Environment": f"`{described.variable}`",
    }
    lines = "".join(f"- {name}: {fact}\n" for name, fact in facts.items() if fact)
    about = described.about[0].upper() + described.about[1:]
    return f"## `{described.key}`\n\n{about}.\n\n{lines}"
