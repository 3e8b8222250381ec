"""
The configuration: everything that can be set, and what there is to know about it.

Where values come from is the business of `layers.py`; `reference.py` makes README's table and
`docs/options.md` of what stands here.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from ipaddress import ip_address
from operator import attrgetter
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from rakit_ws.channel_options import ChannelRule, channel_rules
from rakit_ws.errors import ConfigError
from rakit_ws.options import (
    Option,
    Table,
    boolean,
    choice,
    declared_in,
    integer,
    is_address,
    is_host_header,
    is_line,
    is_listen_host,
    is_origin,
    is_path,
    is_proxy,
    is_request_path,
    is_secret,
    is_token,
    is_user_column,
    names,
    option,
    rate,
    seconds,
    string,
)
from rakit_ws.source_options import Http, Jwt
from rakit_ws.user_options import Auth, Rakit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, kw_only=True)
class Presence(Table):
    """The table `[presence]`: who is told of whom, and how much that may cost."""

    enabled: bool = option(
        "tell every client who is connected whenever someone comes or goes; if false, only when "
        "the command `presence` asks for it",
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
        "attributes of `client.user` that everybody may see; a guest has only a name",
        names(
            "column names, without id, connected_at and clients, which go by themselves",
            is_user_column,
        ),
        default=("name", "email"),
        zero="only `id` and `connected_at` go out",
        cost="their size, for each user listed",
    )
    group_by: Literal["client", "user"] = option(
        "what has an entry: each `client`, or each `user` with a list of its `clients`",
        choice("client", "user"),
        default="client",
        cost="with user the entry of one who comes or goes is made anew; its 32 newest clients are "
        "listed",
        precedent="the framework's manual shows one for each client",
    )
    grace: float = option(
        "how long a user's client that has left is still shown, in case it is back at once: a page "
        "that is loaded anew",
        seconds(0, 3600),
        default=0.0,
        unit="seconds",
        zero="whoever leaves has left",
        cost="who has left is shown for this much longer; 2 kB for each of at most 10,000",
        reached="it has left; so has a guest at once, who could not be told from another",
        precedent="Ably holds back the leave of a connection that broke for 15 s",
    )


@dataclass(frozen=True, kw_only=True)
class Compression(Table):
    """The table `[compression]`: permessage-deflate, with clients that offer it."""

    enabled: bool = option(
        "compress messages for clients that offer permessage-deflate, as browsers do; so does "
        "`permessage-deflate` in `supported_extensions`",
        boolean(),
        default=False,
        cost="CPU for every message (docs/compression.md has figures); no memory for an idle "
        "client, unless one of the context takeovers is on",
        precedent="uWebSockets and ws off, websockets on",
    )
    minimum_size: int = option(
        "messages below this size go out as they are",
        integer(0),
        default=256,
        unit="bytes",
        zero="all are compressed, and sent so where it makes them smaller",
        cost="the smaller, the more CPU for fewer bytes",
        reached="a message of this size is compressed, and sent so if that makes it smaller",
        precedent="ws 1024, Centrifugo 0; a kilobyte fits one packet, but so do four of these",
    )
    level: int = option(
        "from 1, fast, to 9, small",
        integer(1, 9),
        default=1,
        unit="level",
        zero="not allowed",
        cost="1 KiB of JSON at 1, 3, 6: 5, 15, 16 µs, for 38, 29, 28 % of its size",
        reached="nothing; it is no limit",
        precedent="Centrifugo 1, ws and websockets 6",
    )
    server_context_takeover: bool = option(
        "let a message refer to earlier ones to the same client, unless the client is against it",
        boolean(),
        default=False,
        cost="a compressor for each client that was sent something compressed, up to 390 kB, and "
        "a publication is compressed for each recipient instead of once",
        precedent="uWebSockets' shared compressor is without, too; ws and websockets are with",
    )
    client_context_takeover: bool = option(
        "let a client's message refer to its earlier ones",
        boolean(),
        default=False,
        cost="what a client has sent is kept for it, up to 2^client_window_bits bytes",
        precedent="uWebSockets' shared decompressor is without, too; ws and websockets are with",
    )
    server_window_bits: int = option(
        "how far back a compressed message may refer: 2 to the power of this, in bytes; a client "
        "may ask for less",
        integer(9, 15),
        default=15,
        unit="bits",
        zero="not allowed",
        cost="four times the window in each compressor, of which there is one for all clients "
        "without `server_context_takeover`",
        reached="what lies farther back is not referred to",
        precedent="15 is what RFC 7692 means where nothing is said",
    )
    client_window_bits: int = option(
        "the same for what clients send; one that does not offer `client_max_window_bits` is let "
        "take no context over instead",
        integer(9, 15),
        default=15,
        unit="bits",
        zero="not allowed",
        cost="see `client_context_takeover`",
        reached="what lies farther back is forgotten; a client that refers to it is closed with 1007",
        precedent="15 is what RFC 7692 means where nothing is said; websockets 12",
    )
    memory_level: int = option(
        "size of a compressor's tables, from 1 to 9",
        integer(1, 9),
        default=8,
        unit="level",
        zero="not allowed",
        cost="from 1 kB to 230 kB in each compressor",
        reached="a compressed block ends, and the next one has its own tables",
        precedent="zlib and ws 8, websockets 5",
    )


@dataclass(frozen=True, kw_only=True)
class Tls(Table):
    """
    The table `[tls]`: wss:// without a proxy in front.

    Raises:
        ConfigError: one of the files is named, and the other is not.

    """

    certificate: str = option(
        "PEM file of the certificate, followed by its issuers' (a full chain): TLS 1.2 and 1.3",
        string("the path of a file, or empty", is_path),
        default="",
        zero="no TLS, if `tls.key` is empty too",
        cost="8 kB more for each idle connection, and a signature for each new one (docs/tls.md)",
    )
    key: str = option(
        "PEM file of its private key, without a passphrase",
        string("the path of a file, or empty", is_path),
        default="",
        zero="no TLS, if `tls.certificate` is empty too",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for given, missing in (("certificate", "key"), ("key", "certificate")):
            if getattr(self, given) and not getattr(self, missing):
                raise ConfigError(
                    f"tls.{missing} is missing beside tls.{given}: give both, or none"
                )

    @property
    def is_on(self) -> bool:
        """Whether TLS is spoken."""
        return bool(self.certificate)


@dataclass(frozen=True, kw_only=True)
class Config(Table):
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
        reloadable=False,
    )
    port: int = option(
        "TCP port to listen on; without meaning for a Unix socket",
        integer(0, 65_535),
        default=6001,
        zero="the system picks a free one, which start-up prints",
        precedent="the PHP reference; also Laravel's Echo server and Soketi",
        reloadable=False,
    )
    path: str = option(
        "the only path on which handshakes are accepted",
        string('empty, or a path that begins with "/", without query', is_request_path),
        default="",
        zero="any path",
    )

    shards: int = option(
        "how many parts the connections are in: each but a single one has a thread of its own, which "
        "receives, decodes, frames and sends without the interpreter's lock, for as many cores",
        integer(0, 64),
        default=0,
        unit="shards",
        zero="1 on up to two cores, else half of the cores that the process may use",
        cost="with 1, which runs in the loop's own thread, nothing; otherwise 0.5 MB for each, and "
        "up to 8 MiB of messages on their way to be handled; a message takes two threads instead "
        "of one, and 20 to 50 µs longer",
        reached="it is no limit",
        precedent="nginx starts a process for each core (worker_processes auto), and none hears of "
        "the others' clients",
        reloadable=False,
    )
    io_uring: bool = option(
        "whether many sockets are written with one system call: where eight clients or more have "
        "something to be sent, those of them with at most 4 KiB and without TLS",
        boolean(),
        default=True,
        cost="80 KiB and a descriptor for each shard, from its first use on. What it saves is in "
        "benches/README.md",
        reached="where the system has none (before Linux 6.1) or refuses it (seccomp profiles of containers "
        "do), each socket is written by itself, as with false: `writes_together` stays 0",
        precedent="libuv joins its calls of epoll_ctl in this way, unasked; its rings with a thread of the "
        "kernel's (SQPOLL), which were trouble, are off",
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
    max_fragments: int = option(
        "most frames of one message, empty ones included",
        integer(1),
        default=65_536,
        unit="frames",
        zero="not allowed; 1 takes no message in fragments",
        cost="none of memory: fragments are joined as they come",
        reached="the connection is closed with 1008 at the header of the next one",
        precedent="ws 16,384; Autobahn 9.3.1 sends 65,536",
    )
    max_control_frames_per_second: int = option(
        "most Pings and Pongs of one client in a second",
        integer(0),
        default=100,
        unit="frames a second",
        zero="no limit",
        cost="each Ping is answered with a Pong of its size, up to 127 bytes",
        reached="the connection is closed with 1008",
        precedent="Sōzu takes 100 PINGs of HTTP/2 in a second",
    )
    rate_limit: float = option(
        "most messages of one client a second, in the long run; counted before they are read",
        rate(1_000_000),
        default=0.0,
        unit="messages a second",
        zero="no limit",
        cost="a comparison for each message",
        reached="further messages are answered with the error `rate_limited`, once a second for all "
        "of them; when `rate_burst` are refused, and it goes on faster than this, 1008",
        precedent="off, as Centrifugo's and Soketi's; Discord takes 2 a second from each client",
    )
    rate_burst: int = option(
        "most messages of one client at once, where `rate_limit` is set; a rest fills it up again",
        integer(1),
        default=40,
        unit="messages",
        zero="not allowed",
        cost="up to this many messages of each client are handled at once",
        reached="as `rate_limit`",
        precedent="Discord takes 120 messages in any minute",
    )
    max_send_buffer: int = option(
        "most that is queued for one client that reads too slowly",
        integer(1024),
        default=1024 * 1024,
        unit="bytes",
        zero="not allowed",
        cost="up to this much memory, and one message, for each slow client; four times as much, and "
        "once more for each sender (several shards: twice, and 512 KiB), while clients that send to "
        "it are held back",
        reached="what `slow_reader` says; so for one behind a burst of this size. A message is "
        "queued while less waits, so that a larger one goes to a client for which nothing waits. "
        "From half of it on, clients that send to one that reads are not read themselves",
        precedent="Centrifugo 1 MiB, uWebSockets 64 KiB",
    )
    slow_reader: Literal["close", "drop"] = option(
        "what becomes of a client for which `max_send_buffer` waits: `close` it with 1013, or "
        "`drop` the newest messages for it until less waits",
        choice("close", "drop"),
        default="close",
        cost="with drop a client misses messages and does not learn of it; those queued are whole "
        "and in order, and control frames are never dropped",
        reached="closed in `slow_readers`; dropped in `messages_dropped`, and a line of the log",
        precedent="uWebSockets has both (closeOnBackpressureLimit), Centrifugo closes",
    )
    max_header_size: int = option(
        "longest header block of a handshake, from the request line to the empty line",
        integer(512, 65_535),
        default=16 * 1024,
        unit="bytes",
        zero="not allowed",
        cost="up to this much memory for each connection: what hooks may look at stays",
        reached="431; so are more than 100 header lines",
        precedent="Node.js 16 KiB, Apache 8 KiB a line, nginx 4 times 8 KiB",
    )
    max_memory: int = option(
        "most that is held because of all clients together: queues (a frame for many counts once), "
        "messages under way, requests, 1.5 KiB for each connection",
        integer(0),
        default=0,
        unit="bytes",
        zero="half of what the process may use: of the machine's memory, or less where a control "
        "group or `ulimit -v` allows less",
        cost="a sum is kept. Not counted: Python's own objects, up to 4 MiB of messages that are "
        "being handled, messages that wait for an async hook",
        reached="from three quarters on, handshakes are answered 503 and clients that hold over 64 "
        "KiB are not read; beyond it, or after a second of that, those who hold most are closed "
        "with 1013 (without a Close where some of their queue is under way)",
        precedent="RabbitMQ stops reading from publishers at 0.6 of the memory, Redis closes those "
        "who hold most (`maxmemory-clients`, off by default)",
    )
    max_connections: int = option(
        "most connections at a time",
        integer(0),
        default=0,
        unit="connections",
        zero="as many as the descriptor limit (`ulimit -n`) allows, less 128 of them (and 5 for "
        "each of several shards) or half",
        cost="1.4 kB for each idle connection, and its request's headers (up to `max_header_size`)",
        reached="a connection that has not sent its request for over 1 s makes room; where there "
        "is none, further handshakes are answered 503 with Retry-After",
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
        cost="up to `max_header_size` of request, and 32 KiB of frames behind it, for each",
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

    max_channels: int = option(
        "most channels that somebody hears, in the whole server",
        integer(0),
        default=1_000_000,
        unit="channels",
        zero="no limit but `max_connections` times `max_channels_per_client`",
        cost="about 250 bytes and its name, once as it is and once as JSON, for each channel",
        reached="subscribing to one that nobody hears yet is answered with the error "
        "`too_many_channels`; those that exist stay open to all",
        precedent="Centrifugo and Soketi bound only each client's; this one keeps memory "
        "below half a gigabyte",
    )
    max_channel_name_bytes: int = option(
        "longest name of a channel that a client may subscribe to, in UTF-8",
        integer(1, 255),
        default=255,
        unit="bytes",
        zero="not allowed",
        cost="each name is kept twice while somebody hears the channel",
        reached="subscribing is answered with the error `bad_request`",
        precedent="Centrifugo 255, Pusher Channels 164",
    )
    channels: tuple[ChannelRule, ...] = option(
        "who may subscribe to channels, publish in them and see their members; the first rule whose "
        "`pattern` fits decides (docs/channels.md)",
        channel_rules(),
        default=(),
        zero="everybody may subscribe and publish, and see members unless `presence.enabled` is off",
        cost="a look-up for each message to a channel; nothing where there is no rule",
        reached="the error `forbidden`",
        precedent="Pusher Channels and Laravel tell private channels by a prefix too",
    )
    channel_secret: str = option(
        "the key of the signatures by which an application grants channels; never printed nor logged",
        string("visible ASCII characters without blanks", is_secret),
        default="",
        zero="no signature is valid",
        secret=True,
    )
    max_json_depth: int = option(
        "deepest nesting of arrays and objects in a message, the message itself included",
        integer(1, 1000),
        default=512,
        unit="levels",
        zero="not allowed",
        cost="messages with more bytes than this are looked through once before they are read",
        reached="the message is answered with the error `bad_request`, unread",
        precedent="PHP's json_decode 512",
    )
    max_errors: int = option(
        "most errors that one client may be answered with in a minute, and at once",
        integer(0),
        default=100,
        unit="errors a minute",
        zero="no limit",
        cost="none but for clients that make errors",
        reached="the error is still sent, and the client closed with 1008",
        precedent="Postfix ends a session at 20 errors (smtpd_hard_error_limit)",
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

    trusted_proxies: tuple[str, ...] = option(
        'proxies that are believed who asks: addresses, networks, "unix" for Unix sockets',
        names('IP addresses, networks such as 10.0.0.0/8, or "unix"', is_proxy),
        default=(),
        zero="nobody is believed: the other end of the socket asks",
        cost="whoever connects from there can be anybody, as far as this server can tell",
        precedent="nginx's set_real_ip_from and Rails' trusted_proxies; none by default, as with nginx",
    )
    forwarding_header: Literal["x-forwarded-for", "forwarded"] = option(
        "where `trusted_proxies` say who asks: `x-forwarded-for`, or `forwarded` (RFC 7239); the "
        "other header is ignored, since proxies pass on what clients write there",
        choice("x-forwarded-for", "forwarded"),
        default="x-forwarded-for",
        precedent="nginx, HAProxy, Caddy, Traefik and AWS write X-Forwarded-For",
    )
    proxy_protocol: bool = option(
        "expect each connection to begin with a PROXY header (version 1 or 2) that says who asks; "
        "from `trusted_proxies`, or from anybody where there are none",
        boolean(),
        default=False,
        cost="two more system calls for each connection",
        reached="connections without a sound header, or from others, are aborted",
        precedent="off, as with nginx and HAProxy (accept-proxy)",
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
        zero="any origin",
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
        "extensions to negotiate: `permessage-deflate` does what `compression.enabled` does",
        names("extension names: RFC 7230 tokens", is_token),
        default=(),
        zero="none",
    )

    command_access: Literal["auto", "operators", "everyone", "nobody"] = option(
        "who may give commands: `operators`, `everyone`, `nobody`; `auto` is everyone while the "
        "server is on loopback only, for programs and pages of this machine, else operators",
        choice("auto", "operators", "everyone", "nobody"),
        default="auto",
    )
    operators: tuple[str, ...] = option(
        "users who may give commands, by the `id` or `email` of `client.user`",
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

    user_messages: Literal["everyone", "users", "operators", "nobody"] = option(
        'who may send to all clients of a user, `{"to":{"user":…}}`: `everyone`, `users`, '
        "`operators`, `nobody`; commands and code always may",
        choice("everyone", "users", "operators", "nobody"),
        default="everyone",
        cost="ids of users can be guessed: whoever may send learns who is here, though presence is off",
        reached="the error `forbidden`",
    )
    compat: Literal["", "php"] = option(
        "speak as another server: `php` sends the bytes of the framework's own server "
        "(docs/compat.md)",
        choice("", "php"),
        default="",
        zero="the protocol as it is documented",
        cost="with php routing a message costs three to ten times as much, and each who comes or goes "
        "is told to everyone in a message of its own",
        reloadable=False,
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
        cost="debug tells of every message, and costs more than handling it",
    )
    loop: Literal["uvloop", "asyncio"] = option(
        "the event loop that `run` starts: `uvloop` or `asyncio`",
        choice("uvloop", "asyncio"),
        default="uvloop",
        reloadable=False,
    )

    presence: Presence = field(default_factory=Presence)
    auth: Auth = field(default_factory=Auth)
    rakit: Rakit = field(default_factory=Rakit)
    jwt: Jwt = field(default_factory=Jwt)
    http: Http = field(default_factory=Http)
    compression: Compression = field(default_factory=Compression)
    tls: Tls = field(default_factory=Tls)

    @property
    def compresses(self) -> bool:
        """Whether compression is agreed on with clients that offer it."""
        return self.compression.enabled or DEFLATE in self.supported_extensions

    @property
    def effective_ping_interval(self) -> float:
        """Seconds of silence before a Ping, early enough to be answered; 0: never."""
        if 0 < self.ping_timeout <= self.ping_interval:
            return self.ping_timeout / 2
        return self.ping_interval

    def source_timeout(self, count: int) -> float:
        """Seconds that each of `count` sources of users has, so that all fit in a handshake."""
        return min(self.auth.timeout, 0.9 * self.handshake_timeout / max(1, count))

    def warnings(self) -> list[str]:
        """List what is allowed but probably not meant, one line each."""
        return [text for applies, text in _suspicions(self) if applies]


DEFLATE = "permessage-deflate"

EXTENSIONS: frozenset[str] = frozenset({DEFLATE})
"""The extensions that exist."""

TABLES: Mapping[str, type[Table]] = {
    "presence": Presence,
    "compression": Compression,
    "auth": Auth,
    "rakit": Rakit,
    "jwt": Jwt,
    "http": Http,
    "tls": Tls,
}
"""The tables of TOML, by name."""


def _suspicions(config: Config) -> Iterator[tuple[bool, str]]:
    unknown = [name for name in config.supported_extensions if name not in EXTENSIONS]
    private = {"password", "remember_token", "api_token"}.intersection(config.presence.fields)
    yield bool(unknown), f"supported_extensions: {', '.join(unknown)} does not exist here: ignored"
    yield (
        config.extensions_required and not config.compresses,
        "extensions_required without compression, the only one: nobody can connect",
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
        0 < config.max_memory < 8 * (config.max_buffer_size + config.max_send_buffer),
        "max_memory is below 8 x (max_buffer_size + max_send_buffer): a few clients exhaust it",
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
        any(network.endswith("/0") for network in config.trusted_proxies),
        "trusted_proxies has everybody in it: any client can invent its address",
    )
    yield (
        config.proxy_protocol and not config.trusted_proxies,
        "proxy_protocol without trusted_proxies: whoever can connect can invent its address",
    )
    yield (
        config.command_access == "operators" and not (config.operators or config.operator_token),
        "command_access is operators, and there are none: nobody may give commands",
    )
    yield (
        0 < len(config.operator_token) < 16,
        "operator_token is shorter than 16 characters: it can be guessed",
    )
    yield (
        0 < len(config.channel_secret) < 16,
        "channel_secret is shorter than 16 characters: it can be guessed",
    )
    yield (
        any(
            "grant" in map(rule.audience, ("subscribe", "publish", "members"))
            for rule in config.channels
        )
        and not (config.channel_secret or config.auth.sources),
        "channels: grant without channel_secret and without sources of users: nobody is granted one",
    )
    sources = len(set(config.auth.sources))
    yield (
        sources > 0 and config.source_timeout(sources) < config.auth.timeout,
        f"auth.timeout: {sources} sources do not fit in handshake_timeout: each has "
        f"{config.source_timeout(sources):g} s",
    )
    yield (
        config.tls.is_on and config.host.startswith("unix:"),
        "tls on a Unix socket: whoever connects to it, a proxy for instance, must speak TLS too",
    )
    yield (
        _is_open(config.jwt.keys_url),
        "jwt.keys_url without TLS: whoever is in between can be any user",
    )
    yield (
        _is_open(config.http.url),
        "http.url without TLS: whoever is in between reads the cookies of users",
    )
    yield (
        config.compat == "php" and config.plain_text == "reject",
        'plain_text is "reject", which means nothing with compat = "php": text is broadcast',
    )
    yield bool(private), f"presence.fields tells everybody {', '.join(sorted(private))}"


def _is_open(url: str) -> bool:
    """Whether others may read what goes to a URL, and change what comes back."""
    return url.startswith("http://") and not _is_loopback(urlsplit(url).hostname or "")


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.startswith("unix:"):
        return True
    return is_address(host) and ip_address(host).is_loopback


@cache
def options() -> tuple[Option, ...]:
    """All options, in the order in which they are declared, with dotted keys."""
    inner = (
        replace(declared, key=f"{name}.{declared.key}")
        for name, table in TABLES.items()
        for declared in declared_in(table)
    )
    return (*declared_in(Config), *inner)


def value_of(config: Config, key: str) -> object:
    """Look up a dotted key."""
    return attrgetter(key)(config)
