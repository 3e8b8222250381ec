"""
Every JSON message of the protocol, in and out (`docs/protocol.md`).

What clients send is decoded into an `Inbound`; its payloads stay the raw JSON that they were
and are spliced into what goes out, never parsed and never re-encoded.
"""

from __future__ import annotations

import re
from json import JSONDecoder
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import UNSET, DecodeError, Meta, MsgspecError, Raw, Struct, UnsetType
from msgspec.json import Decoder, Encoder

from rakit_ws.codes import ErrorCode
from rakit_ws.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MAX_CHANNEL_BYTES = 255
MAX_ID_CHARS = 64

# Of an object that needs the slow decoder, so that one message cannot keep it long.
MAX_KEYS = 256

# Channels whose opening bytes are kept here. Those of channels that somebody hears are kept by the
# engine, for what clients publish where there is no `send` hook.
_CACHED_CHANNELS = 512


def _no_json(word: str) -> object:
    """Refuse NaN and Infinity, which Python would take."""
    raise ValueError(word)


_ABSENT = Raw()
_INTEGER = re.compile(rb"-?(?:0|[1-9][0-9]{0,62})")
# Perhaps half a surrogate pair, perhaps a whole one: cheap to find, in both cases.
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
# Only where a value ends counts here, not what it is.
_VALUES = JSONDecoder(parse_int=str, parse_float=str, parse_constant=_no_json)
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def _plain(value: object) -> object:
    """Turn what the encoder does not know, a `Delivered` for one, into what it does."""
    if isinstance(value, int):
        return int(value)
    raise TypeError(f"JSON can't hold a {type(value).__name__}")


_encode = Encoder(enc_hook=_plain).encode


def encode(value: object) -> bytes:
    """
    Return a value as compact JSON in UTF-8. NaN and the infinities become null.

    Raises:
        UsageError: JSON can't hold it: another type, half a surrogate pair, a cycle.

    """
    try:
        return _encode(value)
    except (TypeError, ValueError, RecursionError, MsgspecError) as error:
        raise UsageError(f"JSON can't hold this {type(value).__name__}: {error}") from error


class NotUnderstoodError(Exception):
    """
    What a client sent cannot be done. `code` and `text` go back to it as an `error` object.

    Raised by the router's handlers for the peer's faults only; it never leaves the router.
    """

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text


def bad_request(text: str) -> NotUnderstoodError:
    """Make the error for a key that is missing or of the wrong type."""
    return NotUnderstoodError(ErrorCode.BAD_REQUEST, text)


class ToUser(Struct, gc=False):
    """Whom a private message is for, where that is a user with all its clients."""

    user: str | Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]

    @property
    def user_id(self) -> str:
        """The id as text. PHP writes a number of the database as one."""
        return str(self.user)


class Inbound(Struct, gc=False):
    """
    An object from a client. Keys that it does not know are ignored.

    A key of text is UNSET when absent and None when it is there but not a string. A key of
    any type is an empty Raw when absent.
    """

    event: str | UnsetType | None = UNSET
    channel: str | UnsetType | None = UNSET
    data: Raw = _ABSENT
    id: Raw = _ABSENT
    to: str | ToUser | UnsetType | None = UNSET
    message: Raw = _ABSENT
    ping: Raw = _ABSENT
    command: str | UnsetType | None = UNSET
    client_id: str | UnsetType | None = UNSET
    token: str | UnsetType | None = UNSET


class Message(Struct, forbid_unknown_fields=True, gc=False):
    """A publication that asks for no answer, the most frequent object: decoded in half the time."""

    event: Literal["message"]
    channel: str
    data: Raw


class _Loose(Struct, gc=False):
    """An `Inbound` before the types of its keys are looked at."""

    event: Raw = _ABSENT
    channel: Raw = _ABSENT
    data: Raw = _ABSENT
    id: Raw = _ABSENT
    to: Raw = _ABSENT
    message: Raw = _ABSENT
    ping: Raw = _ABSENT
    command: Raw = _ABSENT
    client_id: Raw = _ABSENT
    token: Raw = _ABSENT


class _Granted(Struct, gc=False):
    """What only guarded channels need of an object: reading it always costs 54 instructions."""

    grant: Raw = _ABSENT


decode_strictly = Decoder(Inbound).decode
"""
Read an object of a client, for code that must be quick.

Raises msgspec.DecodeError where `decode_leniently` should have a try, and RecursionError where
the JSON is nested deeper than Python's recursion limit (about 1000).
"""

decode_message = Decoder(Message).decode
"""Read a `Message`. Raises as `decode_strictly`, and for every other object, too."""

_decode_loose = Decoder(_Loose).decode
_decode_granted = Decoder(_Granted).decode
_decode_text = Decoder(str).decode
_decode_to_user = Decoder(ToUser).decode


def decode_leniently(received: bytes) -> Inbound | None:
    """
    Read an object that `decode_strictly` did not take; None for anything but an object.

    It may have a key of the wrong type, which need not be one that matters, or half a
    character in it.

    Raises:
        RecursionError: as `decode_strictly`.

    """
    try:
        loose = _decode_loose(received)
    except DecodeError:
        members = _members_with_half_characters(received)
        if members is None:
            return None
    else:
        members = {name: bytes(getattr(loose, name)) for name in _Loose.__struct_fields__}
    return Inbound(
        event=_text(members.get("event")),
        channel=_text(members.get("channel")),
        data=Raw(members.get("data", b"")),
        id=Raw(members.get("id", b"")),
        to=_receiver(members.get("to")),
        message=Raw(members.get("message", b"")),
        ping=Raw(members.get("ping", b"")),
        command=_text(members.get("command")),
        client_id=_text(members.get("client_id")),
        token=_text(members.get("token")),
    )


def _members_with_half_characters(received: bytes) -> dict[str, bytes] | None:
    """
    Return what an object's keys stand for, as it came; None for anything but an object.

    JavaScript writes half a surrogate pair where a string was cut inside an emoji, and the
    quick decoder takes none. As what it is not, text that is no JSON, a private message would
    be told to everyone.
    """
    if not _HALF.search(received):
        return None
    text = received.decode()
    try:
        if not isinstance(_VALUES.decode(text), dict):
            return None
    except ValueError:
        return None
    return dict(_members(text))


def _members(text: str) -> Iterator[tuple[str, bytes]]:
    """Yield the keys of a JSON object, which is known to be one, and what stands for each."""
    at = _behind_blanks(text, text.index("{") + 1)
    for _ in range(MAX_KEYS):
        if text[at] == "}":
            return
        key, at = _VALUES.raw_decode(text, at)
        at = _behind_blanks(text, at)
        _, end = _VALUES.raw_decode(text, at)
        yield key, text[at:end].encode()
        at = _behind_blanks(text, end)
    raise bad_request(f"more than {MAX_KEYS} keys")


def _behind_blanks(text: str, at: int) -> int:
    while text[at] in " \t\n\r,:":
        at += 1
    return at


def _text(raw: bytes | None) -> str | UnsetType | None:
    if not raw:
        return UNSET
    if not raw.startswith(b'"'):
        return None
    try:
        return _decode_text(raw)
    except DecodeError:  # half a character: no name of anything has one
        return None


def _receiver(raw: bytes | None) -> str | ToUser | UnsetType | None:
    if not raw or not raw.startswith(b"{"):
        return _text(raw)
    try:
        return _decode_to_user(raw)
    except DecodeError:
        return None


def checked_id(raw: Raw) -> bytes:
    """
    Return the `id` as the JSON that it came as; b"" if there is none.

    Raises:
        NotUnderstoodError: neither an integer nor a string of at most 64 characters.

    """
    if not raw:
        return b""
    as_it_came = bytes(raw)
    if _INTEGER.fullmatch(as_it_came):
        return as_it_came
    named = _text(as_it_came)
    if isinstance(named, str) and len(named) <= MAX_ID_CHARS:
        return as_it_came
    raise bad_request("id must be an integer or a string of at most 64 characters")


def text(value: str | UnsetType | None, key: str) -> str:
    """Return the value of a key of text; raise `bad_request` if it has none."""
    if not isinstance(value, str):
        raise bad_request(f"{key} must be a string")
    return value


def grant(received: bytes) -> str | UnsetType:
    """Return the `grant` of an object that is known to be one; raise `bad_request` for no text."""
    try:
        raw = bytes(_decode_granted(received).grant)
    except DecodeError:
        raw = (_members_with_half_characters(received) or {}).get("grant", b"")
    value = _text(raw)
    if value is None:
        raise bad_request("grant must be a string")
    return value


def receiver(value: str | ToUser | UnsetType | None) -> str | ToUser:
    """Return whom `to` means; raise `bad_request` if nobody."""
    if isinstance(value, (str, ToUser)):
        return value
    raise bad_request('to must be the id of a client, or {"user": the id of a user}')


def payload(raw: Raw, key: str) -> Raw:
    """Return the value of a key of any type; raise `bad_request` if it has none."""
    if not raw:
        raise bad_request(f"{key} is missing")
    return raw


def is_channel(name: str) -> bool:
    """Tell whether a channel may be called so: 1 to 255 bytes of UTF-8, no control characters."""
    if name.isascii():
        return 0 < len(name) <= MAX_CHANNEL_BYTES and name.isprintable()
    try:
        size = len(name.encode())
    except UnicodeEncodeError:  # a lone surrogate; no client can send one, code can
        return False
    return size <= MAX_CHANNEL_BYTES and not _CONTROL_CHARACTER.search(name)


def check_channel(name: str) -> None:
    """Raise `bad_request` for a name that no channel can have."""
    if not is_channel(name):
        raise bad_request("a channel has 1 to 255 bytes and no control characters")


# --- What goes out ----------------------------------------------------------------------------


def welcome(client_id: str, server: str) -> bytes:
    """Make the first message that a client gets."""
    return b'{"type":"welcome","client_id":"%b","server":"%b"}' % (
        client_id.encode(),
        server.encode(),
    )


def signature(client_id: str) -> bytes:
    """Make the end of every message that `client_id` has sent."""
    return b',"client_id":"%b"}' % client_id.encode()


def message(client_id: str, payload: Raw | bytes) -> bytes:
    """Make a broadcast of a client."""
    return b'{"type":"message","client_id":"%b","message":%b}' % (client_id.encode(), payload)


def private(client_id: str, payload: Raw | bytes) -> bytes:
    """Make a private message of a client."""
    return b'{"type":"private","client_id":"%b","message":%b}' % (client_id.encode(), payload)


def publication(channel: str, payload: Raw | bytes, end: bytes) -> bytes:
    """
    Make a publication; `end` is its sender's `signature`, or b"}" in the server's voice.

    Raises:
        NotUnderstoodError: a name that no channel can have.

    """
    return b"".join((publication_starts[channel], payload, end))


def server_broadcast(payload: Raw | bytes) -> bytes:
    """Make a broadcast in the server's own voice."""
    return b'{"type":"broadcast","message":%b}' % payload


def server_private(payload: Raw | bytes) -> bytes:
    """Make a private message in the server's own voice."""
    return b'{"type":"private","message":%b}' % payload


def presence_entry(
    shown_id: str, shown: Mapping[str, object], connected_at: int, **more: object
) -> bytes:
    """Make one element of a presence's `users`; `shown` is what it tells of the user."""
    return encode({"id": shown_id, **shown, "connected_at": connected_at, **more})


def presence(entries: Iterable[bytes], count: int) -> bytes:
    """Make a presence of these entries; `count` is how many there are in all."""
    return b'{"type":"presence","users":[%b],"count":%d}' % (b",".join(entries), count)


def ack(request_id: bytes, field: str, value: bytes) -> bytes:
    """Make the answer to `request_id` (raw JSON): one field with a raw JSON value."""
    return b'{"type":"ack","id":%b,"%b":%b}' % (request_id, field.encode(), value)


def members(request_id: bytes, entries: Iterable[bytes], count: int) -> bytes:
    """Make the answer to `members`: entries as those of a presence; `count` is how many there are."""
    return b'{"type":"ack","id":%b,"members":[%b],"count":%d}' % (
        request_id,
        b",".join(entries),
        count,
    )


def pong(request_id: bytes) -> bytes:
    """Make the answer to a ping with an id."""
    return b'{"type":"pong","id":%b}' % request_id


def error(request_id: bytes, code: ErrorCode, text: str) -> bytes:
    """Make an error; `request_id` is b"" where the client gave none."""
    shown = b'"id":%b,' % request_id if request_id else b""
    return b'{"type":"error",%b"code":"%b","message":%b}' % (
        shown,
        code.value.encode(),
        encode(text),
    )


class _PublicationStarts(dict[str, bytes]):
    """
    What publications in a channel begin with, for the channels that were used lately.

    A look-up costs half of what an lru_cache asks.
    """

    def __missing__(self, channel: str) -> bytes:
        check_channel(channel)
        if len(self) >= _CACHED_CHANNELS:
            self.clear()
        start = self[channel] = b'{"type":"channel","channel":%b,"data":' % encode(channel)
        return start


publication_starts = _PublicationStarts()
"""What a publication begins with, by channel. Raises as `publication`."""
