"""
The native module: the frame core and the engine, in Rust.

Faults of the caller raise what `rakit_ws.errors` declares; faults of a peer are events.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any, Final, Generic, TypedDict, TypeVar, final, type_check_only

from typing_extensions import Buffer, Self, Unpack, disjoint_base

__all__ = [
    "ABANDONED",
    "ABORTED",
    "ACCEPT_PAUSED",
    "ACCEPT_RESUMED",
    "BINARY",
    "CLOSED",
    "DROPPING",
    "IDLE",
    "MEMORY_AMPLE",
    "MEMORY_SHORT",
    "MOST_SHARDS",
    "RATE_LIMITED",
    "REFUSED",
    "REQUESTED",
    "TEXT",
    "TLS_FAILED",
    "ClientBase",
    "ClientTable",
    "Close",
    "Engine",
    "Failed",
    "FrameDecoder",
    "Message",
    "Ping",
    "Pong",
    "Receiver",
    "Request",
    "ShardedEngine",
    "TlsIdentity",
    "__version__",
    "apply_mask",
    "encode_frame",
    "is_deeper",
]

__version__: Final[str]

TEXT: Final[int]
"""(TEXT, handle, payload: bytes): a whole text message, valid UTF-8. The opcode."""
BINARY: Final[int]
"""(BINARY, handle, payload: bytes): a whole binary message. The opcode."""
REQUESTED: Final[int]
"""(REQUESTED, handle, Request): a handshake to `accept` or `reject`."""
ABANDONED: Final[int]
"""(ABANDONED, handle, reason: str): given up before it was decided: "gone", out of time, …"""
REFUSED: Final[int]
"""(REFUSED, 0, (status, reason, peer)): the engine refused a handshake by itself."""
IDLE: Final[int]
"""(IDLE, handle, None): nothing came for the ping interval; only where asked for."""
CLOSED: Final[int]
"""(CLOSED, handle, (code, reason, "peer" | "server" | "lost")): an accepted connection ended."""
ACCEPT_PAUSED: Final[int]
"""(ACCEPT_PAUSED, 0, error: str): descriptors or memory ran out; nobody is accepted for now."""
ACCEPT_RESUMED: Final[int]
"""(ACCEPT_RESUMED, 0, None): connections are accepted again."""
DROPPING: Final[int]
"""(DROPPING, handle, queued: int): messages for a slow reader are dropped; once for each time."""
ABORTED: Final[int]
"""(ABORTED, 0, (reason, peer)): the engine ended a connection without a word, before its request."""
RATE_LIMITED: Final[int]
"""(RATE_LIMITED, handle, None): messages are refused, and the client was not told for a second."""
MEMORY_SHORT: Final[int]
"""(MEMORY_SHORT, 0, held: int): over 3/4 of `max_memory` are held; handshakes are refused."""
MEMORY_AMPLE: Final[int]
"""(MEMORY_AMPLE, 0, held: int): that is over, less than 5/8 are held."""
TLS_FAILED: Final[int]
"""(TLS_FAILED, 0, (reason, peer)): TLS could not be agreed upon; the peer got an alert."""

MOST_SHARDS: Final[int]
"""How many shards a `ShardedEngine` may have."""

@final
class Message:
    """A whole message: opcode 1 (text, valid UTF-8) or 2 (binary) and its payload."""

    __match_args__: Final = ("opcode", "payload")
    def __new__(cls, opcode: int, payload: bytes) -> Self: ...
    @property
    def opcode(self) -> int: ...
    @property
    def payload(self) -> bytes: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Ping:
    """A Ping; it wants a Pong with the same payload (RFC 6455 §5.5.2)."""

    __match_args__: Final = ("payload",)
    def __new__(cls, payload: bytes) -> Self: ...
    @property
    def payload(self) -> bytes: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Pong:
    """A Pong (RFC 6455 §5.5.3)."""

    __match_args__: Final = ("payload",)
    def __new__(cls, payload: bytes) -> Self: ...
    @property
    def payload(self) -> bytes: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Close:
    """A Close: its status code, 1005 if it had none, and its reason (RFC 6455 §5.5.1)."""

    __match_args__: Final = ("code", "reason")
    def __new__(cls, code: int, reason: str) -> Self: ...
    @property
    def code(self) -> int: ...
    @property
    def reason(self) -> str: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Failed:
    """The connection fails: the status code to close it with, and why (RFC 6455 §7.1.7)."""

    __match_args__: Final = ("code", "reason")
    def __new__(cls, code: int, reason: str) -> Self: ...
    @property
    def code(self) -> int: ...
    @property
    def reason(self) -> str: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class FrameDecoder:
    """
    Decodes what one peer sends, without a socket.

    `max_message_bytes` bounds a message, all fragments together (1009), `max_fragments` the
    frames that it comes in (1008). `role` is the endpoint that decodes: a "server" demands
    masked frames, a "client" unmasked ones (RFC 6455 §5.1).

    Raises:
        UsageError: another role.
    """

    def __new__(
        cls,
        *,
        max_message_bytes: int = 1_048_576,
        max_fragments: int = 65_536,
        role: str = "server",
    ) -> Self: ...
    def receive_data(self, data: Buffer) -> list[Message | Ping | Pong | Close | Failed]:
        """
        Take bytes from the peer; return the events that they complete, oldest first.

        `data` may end anywhere, even inside a header; events do not depend on where. What is
        wrong is refused at the byte that proves it: text in the middle of a frame, a length
        before its masking key. A fault of the peer is the last event, `Failed`, with its
        status code (RFC 6455 §7.4.1). After it, and after a `Close`, everything is ignored.

        Raises:
            UsageError: called after `receive_eof()`.
            TypeError: `data` is not bytes-like.
        """

    def receive_eof(self) -> list[Message | Ping | Pong | Close | Failed]:
        """Take the end of the stream; return `Failed(1006)` unless Close or Failed came before."""

    @property
    def buffered_bytes(self) -> int:
        """
        Bytes that wait for the next call.

        At most `max_message_bytes` of a message and 131 of a header or control frame.
        """

def encode_frame(
    opcode: int, payload: Buffer, *, fin: bool = True, mask: bytes | None = None
) -> bytes:
    """
    Return one frame (RFC 6455 §5.2), masked if a key of four bytes is given.

    Raises:
        UsageError: no such opcode, a control frame that is fragmented or over 125 bytes, a key
            that has not four bytes.
        TypeError: `payload` is not bytes-like.
    """

def apply_mask(data: Buffer, key: bytes) -> bytes:
    """
    Return `data` masked, or unmasked, with a key of four bytes (RFC 6455 §5.3).

    Raises:
        UsageError: a key that has not four bytes.
        TypeError: `data` is not bytes-like.
    """

def is_deeper(text: bytes, max_depth: int, /) -> bool:
    """
    Tell whether arrays and objects are nested more than `max_depth` deep in JSON.

    Text that is not JSON may be either: no reader gets deeper in it than is told here.
    """

@final
class Request:
    """
    A client's opening handshake (RFC 6455 §4.1), which RFC 6455 has nothing against.

    Header bytes are given as ISO 8859-1.
    """

    @property
    def target(self) -> str:
        """The request target as it came: path and query, or an absolute URI."""

    @property
    def path(self) -> str:
        """The path alone."""

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Every header line in its order: name in lower case, value."""

    def header(self, name: str) -> str | None:
        """Return the value of a header in any letter case, several lines joined by ", "."""

    @property
    def subprotocols(self) -> list[str]:
        """The subprotocols that the client offers, the one that it likes best first."""

    @property
    def extensions(self) -> list[str]:
        """The names of the extensions that the client offers."""

    @property
    def agreed_extensions(self) -> list[str]:
        """What the answer will name, with parameters, if the request is accepted."""

    @property
    def peer(self) -> str:
        """
        Who asks: `address:port`, `[address]:port` for IPv6, `unix:` for a Unix socket.

        Behind one of `trusted_proxies` that is whom it names; without a port, if it names none.
        """

    @property
    def proxy(self) -> str | None:
        """The other end of our socket, where that is a proxy; None: it is `peer` itself."""

    @property
    def is_secure(self) -> bool:
        """Whether it came over TLS that this server speaks; a proxy's TLS is not known here."""

@type_check_only
class EngineSettings(TypedDict, total=False):
    """
    What bounds an engine; `src/engine/settings.rs` says what each means, and its default.

    Times are in seconds, to the millisecond, up to 1e9; 0 means never (`close_timeout_s`: at
    once).
    """

    max_message_bytes: int
    max_fragments: int
    max_head_bytes: int
    max_control_frames_per_s: int
    """0: no limit."""
    message_rate: tuple[float, int]
    """Messages a second (0: no limit), and how many at once."""
    trusted_proxies: Sequence[str]
    """Addresses, networks and `unix`."""
    forwarding_header: str
    """`x-forwarded-for` or `forwarded`."""
    proxy_protocol: bool
    max_send_buffer: int
    slow_reader: str
    """`close` or `drop`."""
    compression: bool
    """Whether an offer of permessage-deflate is accepted; what follows is about that."""
    compression_minimum_size: int
    compression_level: int
    """1 to 9."""
    compression_memory_level: int
    """1 to 9."""
    server_context_takeover: bool
    client_context_takeover: bool
    server_window_bits: int
    """9 to 15."""
    client_window_bits: int
    """9 to 15."""
    max_memory: int
    """0: no limit."""
    max_connections: int
    max_connections_per_ip: int
    max_undecided_handshakes: int
    handshake_timeout_s: float
    ping_interval_s: float
    ping_timeout_s: float
    close_timeout_s: float
    io_uring: bool
    report_idle: bool

@final
class TlsIdentity:
    """
    A certificate chain and its key, read from two PEM files and found to be usable now.

    Raises:
        ConfigError: a file that is missing, unreadable, of another kind, encrypted, not in force
            at this time, or that does not go with the other one; names it.
    """

    def __new__(cls, certificate: str | PathLike[str], key: str | PathLike[str]) -> Self: ...
    @property
    def not_after(self) -> int:
        """The last second at which the certificate is valid, in Unix time."""

@disjoint_base
class ClientBase:
    """
    The part of a client that each message needs, so that it costs no code of Python.

    And what takes less memory here than in objects of Python.

    Raises:
        TypeError: not an engine of this module.
        OverflowError: not a handle: 64 bits.
    """

    connected_at: int
    """When it connected, in Unix seconds."""
    mailbox: deque[tuple[int, bytes]] | None
    """Messages that wait for an async hook to end; None, as at first: none runs."""
    has_token: bool
    """Whether it presented the operator token, and that is still the token; False at first."""
    is_operator: bool
    """Whether it presented the operator token, or a hook said so; False at first."""
    may_command: bool
    """Whether it may give commands for another reason (`command_access`); False at first."""
    is_leaving: bool
    """Whether the server has disconnected it: nothing that it has sent is handled any more."""
    signature: bytes
    """The end of every message that it sends (`publish_from`); empty at first."""

    def __new__(cls, engine: Engine | ShardedEngine, handle: int, connected_at: int, /) -> Self: ...
    def send_frame(self, opcode: int, payload: bytes) -> bool:
        """
        Queue a message as it is, without JSON: opcode 1 (text) or 2 (binary).

        Returns whether the client is still there. The text that a `receive` hook is looking at
        is not validated anew.

        Raises:
            UsageError: another opcode, or text that is not UTF-8.
        """

    def retire(self) -> None:
        """Make it inert: what is sent to it from now on goes nowhere."""

_BaseT = TypeVar("_BaseT", bound=ClientBase)

@final
class Receiver(Generic[_BaseT]):
    """
    What a batch hands messages to, so that the usual one is one call.

    `first(client, opcode, payload)` is called with each message of a client that has no mailbox.
    Unless it returns True, `rest(client, opcode, payload, result, error)` is called with what it
    has returned, or raised; the other is None. Messages of a client with a mailbox are
    `keep(client, opcode, payload)`'s.
    """

    def __new__(
        cls,
        first: Callable[[_BaseT, int, bytes], object],
        rest: Callable[[_BaseT, int, bytes, Any, BaseException | None], object],
        keep: Callable[[_BaseT, int, bytes], object],
        /,
    ) -> Self: ...
    def __call__(self, client: _BaseT, opcode: int, payload: bytes, /) -> None:
        """Hand over one message, as a batch does."""

_ClientT = TypeVar("_ClientT")

@final
class ClientTable(Generic[_ClientT]):
    """
    Objects by handle: what a dict would be, but that a batch finds them without a number of Python.

    Knows no order. Adding, looking up and taking cost the same however many are there.
    """

    def __new__(cls) -> Self: ...
    def __len__(self) -> int: ...
    def __contains__(self, handle: int, /) -> bool: ...
    def __getitem__(self, handle: int, /) -> _ClientT:
        """Return the object with this handle; KeyError if there is none."""

    def __setitem__(self, handle: int, client: _ClientT, /) -> None: ...
    def get(self, handle: int, /) -> _ClientT | None:
        """Return the object with this handle; None if there is none."""

    def take(self, handle: int, /) -> _ClientT | None:
        """Remove the object with this handle and return it; None if there is none."""

    def clear(self) -> None:
        """Remove all."""

@final
class Engine:
    """
    Sockets, queues, channels and time of one server; belongs to one thread.

    Its poller is one descriptor, `fileno()`, to be registered with an event loop. When that is
    readable: `handle_batch`. A client is a handle, an int; a stale one is inert: calls with it do
    nothing and return False, 0 or an empty list.

    Raises:
        UsageError: no such setting, or a value that it cannot have.
        OSError: no descriptor for the poller.
    """

    def __new__(cls, **settings: Unpack[EngineSettings]) -> Self: ...
    def configure(self, **settings: Unpack[EngineSettings]) -> None:
        """
        Replace the settings that are given, also while it runs; on a UsageError none.

        Nobody is cut off for it: who is over a lower limit stays, and where the ping settings
        change, a silence that nobody would have asked about counts from now on. Other deadlines
        are as if they had been so from the start.
        """

    def notify_when_queued(self, callback: Callable[[], object] | None) -> None:
        """
        Call `callback`, once, whenever something is queued outside a batch; None: nobody.

        It must see to it that `flush` is called soon, and must not call the engine itself.
        """

    def listen(self, host: str, port: int, *, backlog: int = 4096) -> None:
        """
        Accept connections on an address, a name (on all its addresses) or `unix:/path`.

        Raises:
            ListenError: taken, forbidden or not to be resolved.
        """

    def use_tls(self, identity: TlsIdentity | None) -> None:
        """
        Speak TLS with whoever connects from now on; None: as it comes.

        Clients that are connected keep what they have.
        """

    def stop_listening(self) -> None:
        """Accept no connection any more."""

    @property
    def addresses(self) -> list[str]:
        """Where it listens, with the ports that the system chose for 0."""

    def fileno(self) -> int:
        """Return the poller's descriptor: readable while there is a batch to handle."""

    def handle_batch(
        self,
        clients: ClientTable[_ClientT],
        receive: Callable[[_ClientT, int, bytes], object],
        on_event: Callable[[int, int, Any], object],
        /,
    ) -> None:
        """
        Hand over what has happened, then send what is queued. Never blocks.

        `receive(client, opcode, payload)` is called for each message, with what `clients` has for
        its handle, and `on_event(kind, handle, content)` for everything else, in order; the kinds
        are those above. Where `receive` is a `Receiver`, it is asked without a call of its own.
        To be called at `next_deadline_s` too. What is queued meanwhile goes out
        at the end, in one write for each connection, ahead of a Close that is due.

        What the handlers take decides how much is received at a time, and that a batch ends after
        4 ms. What is left then is for the next one: the descriptor stays readable. Where a
        deadline has come up before the one that `next_deadline_s` last told, a flush is asked
        for, which tells that. What a handler raises ends the batch, and is raised here when what
        was queued until then is sent.

        Raises:
            OSError: the poller is broken.
        """

    def flush(self) -> bool:
        """
        Send what is queued, as far as the sockets take it.

        Returns whether there is a deadline now before the one that `next_deadline_s` last told.
        """

    @property
    def next_deadline_s(self) -> float | None:
        """Seconds until `handle_batch` has a deadline to look at; None: there is none."""

    def accept(
        self,
        handle: int,
        *,
        subprotocol: str | None = None,
        headers: Sequence[tuple[str, str]] | None = None,
        first: bytes | None = None,
    ) -> bool:
        """
        Open an undecided connection; tell whether it was still there.

        Sends 101, then the text message `first`, then what was queued for it meanwhile.

        Raises:
            UsageError: a header that would break the response.
        """

    def reject(
        self,
        handle: int,
        status: int,
        reason: str,
        *,
        headers: Sequence[tuple[str, str]] | None = None,
    ) -> bool:
        """
        Refuse an undecided connection; tell whether it was still there.

        Raises:
            UsageError: a status outside 400 to 599, a header that would break the response.
        """

    def send(self, handle: int, payload: bytes, opcode: int | None = None, sender: int = 0) -> bool:
        """
        Queue a message; False if the client is gone, or reads too slowly.

        It is then closed now (`slow_reader="close"`), or the message is dropped. `sender` as in
        `publish`.

        Opcode 1 or None is text, 2 binary.
        From 4 KiB on the bytes are not copied but kept until they are sent.

        Raises:
            UsageError: an opcode other than 1 and 2, text that is not UTF-8.
        """

    def send_each(self, handles: Sequence[int], payload: bytes, sender: int = 0) -> int:
        """Queue a text message (valid UTF-8, unchecked) for these, otherwise as `publish`."""

    def publish(self, topic: str, payload: bytes, sender: int = 0) -> int:
        """
        Queue a text message (valid UTF-8, unchecked) for a topic; return for how many it is queued.

        `sender` is who has caused it, if a client has: it is not read for a while where
        recipients are behind, although they read.
        """

    def publish_from(
        self,
        client: ClientBase,
        topic: str,
        data: Buffer,
        openings: Mapping[str, bytes],
        /,
    ) -> int:
        """
        Publish a message of a client: `openings[topic]`, `data` and its signature, without a space.

        They are put together where they are queued, otherwise as `publish` does it: the whole must
        be UTF-8, and what is returned is for how many it is queued. `openings` is asked once for as
        long as the topic has a subscriber, which is to say that it must not change, and each time
        where nobody hears it.

        Raises:
            TypeError: data that is no read-only buffer, or an opening that is not `bytes`.
            BufferError: data that is not contiguous.
            UnicodeEncodeError: a topic with half a surrogate pair.
            Exception: what `openings` raises.
        """

    def broadcast(self, payload: bytes, sender: int = 0) -> int:
        """Queue a text message (valid UTF-8, unchecked) for everyone, otherwise as `publish`."""

    def broadcast_from(self, first: int, most: int, payload: bytes) -> tuple[int, int | None]:
        """
        Broadcast to at most `most` clients, from slot `first` on.

        Returns for how many, and the slot to go on from; None: nobody is left.
        """

    def subscribe(self, handle: int, topic: str) -> bool:
        """Let a client hear a topic; tell whether that is new."""

    def unsubscribe(self, handle: int, topic: str) -> bool:
        """Let a client no longer hear a topic; tell whether it did."""

    def hears(self, handle: int, topic: str) -> bool:
        """Tell whether a client hears a topic."""

    def topics_of(self, handle: int) -> list[str]:
        """Return the topics that a client hears, in no order."""

    def topic_count(self, handle: int) -> int:
        """Tell how many topics a client hears."""

    @property
    def topic_total(self) -> int:
        """How many topics have subscribers."""

    def has_topic(self, topic: str) -> bool:
        """Tell whether a topic has subscribers."""

    def topics(self) -> dict[str, int]:
        """Return every topic that has subscribers, with the number of them."""

    def subscribers(self, topic: str, most: int = ...) -> list[int]:
        """Return the handles of those who hear a topic, at most `most` of them, in no order."""

    def subscriber_count(self, topic: str) -> int:
        """Tell how many hear a topic."""

    def close(self, handle: int, code: int, reason: str = "") -> bool:
        """
        Start the closing handshake behind what is queued; tell whether the client was open.

        A reason over 123 bytes is cut.

        Raises:
            UsageError: a code that must not be sent (RFC 6455 §7.4.1).
        """

    def close_all(self, code: int, reason: str = "") -> int:
        """Close everyone, refuse handshakes with 503; return how many were open. As `close`."""

    def abort_all(self) -> None:
        """End every TCP connection at once; nothing is reported."""

    def pause_reading(self, handle: int) -> None:
        """Report no message of a client for now; TCP then slows it down."""

    def resume_reading(self, handle: int) -> None:
        """Report its messages again."""

    @property
    def connection_count(self) -> int:
        """Connections of every kind, those that are closing included."""

    @property
    def open_count(self) -> int:
        """Clients whose handshake is done and that are not closing."""

    def queued_bytes(self, handle: int) -> int:
        """Tell how many bytes wait for a client."""

    @property
    def memory_held(self) -> int:
        """
        Bytes held because of peers, which `max_memory` bounds.

        Queues, each shared frame once, messages under way, what is received and not decoded,
        requests, and 1.5 KiB for each connection.
        """

    def counters(self) -> dict[str, int]:
        """Return totals since the engine was made, by name."""

@final
class ShardedEngine:
    """
    `Engine` with 1 to `MOST_SHARDS` shards, each in a thread that needs no GIL.

    A shard has its connections, their queues and its part of every channel. The descriptor is
    readable while there are events to hand on; time passes by itself, so that no deadline is told.
    What is different for a caller follows from that the threads go on while it is at work: `send`,
    `publish` and the like tell whether, and for how many, a message is on its way to a client that
    was not reported as ended, and not what then becomes of it; `memory_held` and
    `connection_count` are a moment old. `queued_bytes`, `counters`, `stop_listening` and
    `abort_all` wait for the threads.

    `poll` raises what has ended a thread: OSError, or the PanicException of a mistake of ours. A
    process that has one must not fork.

    Raises:
        UsageError: no such number of shards, no such setting, or a value that it cannot have.
        OSError: no descriptor, or no thread.
    """

    def __new__(cls, shards: int, **settings: Unpack[EngineSettings]) -> Self: ...
    @property
    def shards(self) -> int:
        """How many there are."""

    def stop(self) -> None:
        """End the threads, and all connections with them. Later calls go nowhere."""

    def configure(self, **settings: Unpack[EngineSettings]) -> None: ...
    def notify_when_queued(self, callback: Callable[[], object] | None) -> None: ...
    def listen(self, host: str, port: int, *, backlog: int = 4096) -> None: ...
    def use_tls(self, identity: TlsIdentity | None) -> None: ...
    def stop_listening(self) -> None: ...
    @property
    def addresses(self) -> list[str]: ...
    def fileno(self) -> int: ...
    def handle_batch(
        self,
        clients: ClientTable[_ClientT],
        receive: Callable[[_ClientT, int, bytes], object],
        on_event: Callable[[int, int, Any], object],
        /,
    ) -> None: ...
    def flush(self) -> bool: ...
    @property
    def next_deadline_s(self) -> float | None: ...
    def accept(
        self,
        handle: int,
        *,
        subprotocol: str | None = None,
        headers: Sequence[tuple[str, str]] | None = None,
        first: bytes | None = None,
    ) -> bool: ...
    def reject(
        self,
        handle: int,
        status: int,
        reason: str,
        *,
        headers: Sequence[tuple[str, str]] | None = None,
    ) -> bool: ...
    def send(
        self, handle: int, payload: bytes, opcode: int | None = None, sender: int = 0
    ) -> bool: ...
    def send_each(self, handles: Sequence[int], payload: bytes, sender: int = 0) -> int: ...
    def publish(self, topic: str, payload: bytes, sender: int = 0) -> int: ...
    def publish_from(
        self,
        client: ClientBase,
        topic: str,
        data: Buffer,
        openings: Mapping[str, bytes],
        /,
    ) -> int: ...
    def broadcast(self, payload: bytes, sender: int = 0) -> int: ...
    def broadcast_from(self, first: int, most: int, payload: bytes) -> tuple[int, int | None]: ...
    def subscribe(self, handle: int, topic: str) -> bool: ...
    def unsubscribe(self, handle: int, topic: str) -> bool: ...
    def hears(self, handle: int, topic: str) -> bool: ...
    def topics_of(self, handle: int) -> list[str]: ...
    def topic_count(self, handle: int) -> int: ...
    @property
    def topic_total(self) -> int: ...
    def has_topic(self, topic: str) -> bool: ...
    def topics(self) -> dict[str, int]: ...
    def subscribers(self, topic: str, most: int = ...) -> list[int]: ...
    def subscriber_count(self, topic: str) -> int: ...
    def close(self, handle: int, code: int, reason: str = "") -> bool: ...
    def close_all(self, code: int, reason: str = "") -> int: ...
    def abort_all(self) -> None: ...
    def pause_reading(self, handle: int) -> None: ...
    def resume_reading(self, handle: int) -> None: ...
    @property
    def connection_count(self) -> int: ...
    @property
    def open_count(self) -> int: ...
    def queued_bytes(self, handle: int) -> int: ...
    @property
    def memory_held(self) -> int: ...
    def counters(self) -> dict[str, int]: ...
