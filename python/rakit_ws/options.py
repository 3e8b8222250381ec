"""
What an option is: its documentation, and which values it takes.

An option is declared as a field of a table of settings (`config.py`); what there is to know
about it stands beside it as data, from which the tables of the documentation are made.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any, TypeVar

from rakit_ws.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

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
    return _number("a number of seconds", minimum, maximum)


def rate(maximum: float) -> Kind:
    """Take how often something may happen; neither infinite nor NaN."""
    return _number("a number", 0, maximum)


def _number(what: str, minimum: float, maximum: float) -> Kind:
    def check(value: object) -> float:
        # A boolean is an int to isinstance(), but no quantity.
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise NotAllowedError(value)
        if not minimum <= value <= maximum:
            raise NotAllowedError(value)
        return float(value)

    return Kind(f"{what} from {minimum:g} to {maximum:g}", float, check)


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
    if is_dataclass(value) and not isinstance(value, type):
        value = {name: item for name, item in asdict(value).items() if item != ""}
    if isinstance(value, Mapping):
        pairs = (f"{name} = {literal(item)}" for name, item in value.items())
        return "{ " + ", ".join(pairs) + " }"
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


def is_proxy(text: str) -> bool:
    """Whether `text` is an address, a network without host bits, or "unix"."""
    if text == "unix":
        return True
    if re.fullmatch(r"[0-9A-Fa-f:.]+(?:/(?:0|[1-9][0-9]{0,2}))?", text) is None:
        return False  # Python takes more: masks, zones, leading zeros.
    try:
        ip_network(text)
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


def is_path(text: str) -> bool:
    """Whether `text` is empty or may be a path: one line without control characters."""
    return text == "" or text.isprintable()


def is_user_column(text: str) -> bool:
    """Whether presence can send a column `text` beside those that it sends by itself."""
    return text.isidentifier() and text not in {"id", "connected_at", "clients"}


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
    reloadable: bool = True
    """Whether a running server can go on with another value (`Server.reload`)."""

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
class Table:
    """Settings that are right, whoever made them."""

    def __post_init__(self) -> None:
        for declared in declared_in(type(self)):
            value = declared.checked(getattr(self, declared.key), type(self).__name__)
            object.__setattr__(self, declared.key, value)


def declared_in(table: type[Table]) -> tuple[Option, ...]:
    """List the options of a table in the order in which they are declared."""
    return tuple(
        replace(item.metadata["option"], key=item.name)
        for item in fields(table)
        if "option" in item.metadata
    )
