"""A server while it runs: its parts, and what the engine reports to them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from rakit_ws import _core, permissions, php_router, wire
from rakit_ws.access import Access, bearer_token
from rakit_ws.admission import Admission, is_local
from rakit_ws.auth.chain import Chain, is_awaitable, new_counts, sources_of
from rakit_ws.auth.rechecks import Rechecks
from rakit_ws.certificate import read_identity, tell_of
from rakit_ws.codes import CloseCode, ErrorCode
from rakit_ws.commands import Commands
from rakit_ws.dialect import dialect
from rakit_ws.engine import AnyEngine, new_engine, shard_count, thread_count
from rakit_ws.engine import stop as stop_engine
from rakit_ws.errors import Refused
from rakit_ws.hub.channels import Channels
from rakit_ws.hub.hub import Hub
from rakit_ws.hub.presence import Presence
from rakit_ws.inbox import Inbox
from rakit_ws.limits import BY_CLOSE, Limits, log_limit
from rakit_ws.log import log
from rakit_ws.permissions import Permissions
from rakit_ws.php_router import PhpRouter
from rakit_ws.process import descriptors_allowed, memory_allowed
from rakit_ws.router import Router
from rakit_ws.systemd import NOBODY, Systemd
from rakit_ws.tasks import Tasks
from rakit_ws.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from rakit_ws._core import EngineSettings, Request, TlsIdentity
    from rakit_ws.auth.source import Source
    from rakit_ws.config import Config
    from rakit_ws.custom import Command
    from rakit_ws.hub.client import Client
    from rakit_ws.hub.events import Hooks
    from rakit_ws.permissions import Decider
    from rakit_ws.user import Identified

T = TypeVar("T")

PRODUCT = f"rakit_ws/{_core.__version__}"

# Descriptors that connections leave: 64 to the log, brokers and the application, and 64 to those
# over the limit, who are taken in to be told so.
RESERVED_DESCRIPTORS = 128

# What each thread has of its own: poller, waker, mailbox, io_uring, and one to accept with when all
# are taken.
DESCRIPTORS_OF_A_SHARD = 5

# The engine's deadlines are looked at this often at least, and at most.
MAX_TICK_S = 1.0
MIN_TICK_S = 0.02


class Running:
    """
    The parts of one server, put together, and what its engine reports to them.

    ```text
    listening ─begin─► running ─(a fault of ours: crashed)─► stopped ─shut_down─► drained ─abort─► gone
    ```

    Raises:
        ListenError: the address is taken, forbidden or cannot be resolved.
        ConfigError: a source of users can't be with these settings.

    """

    def __init__(
        self,
        config: Config,
        hooks: Hooks,
        commands: dict[str, Command],
        loop: asyncio.AbstractEventLoop,
        systemd: Systemd = NOBODY,
        *,
        function: Source | None = None,
        deciders: Sequence[Decider] = (),
    ) -> None:
        self.loop = loop
        self._systemd = systemd
        self.stopped = asyncio.Event()
        self._drained = asyncio.Event()
        self.is_stopping = False
        self.crashed: BaseException | None = None
        self._config = config
        self._hooks = hooks
        self._commands = commands
        self._undecided: dict[int, _Undecided] = {}
        self._tick_s = _tick_s(config, systemd)
        self._timer: asyncio.TimerHandle | None = None
        self._function = function
        self._deciders = deciders
        self._user_counts = new_counts()
        self._channel_counts = permissions.new_counts()
        self._compat_counts = php_router.new_counts()
        self._former_users: list[Chain] = []
        self._users = self.users_for(config)
        self._is_aborted = False
        self._identity = read_identity(config.tls)
        self.engine: AnyEngine = new_engine(config.shards, **self._engine_settings(config))
        self.engine.use_tls(self._identity)
        try:
            self.engine.listen(config.host, config.port)
        except BaseException:
            stop_engine(self.engine)  # its threads would live as long as the exception does
            raise
        self.tasks = Tasks(loop)
        self.hub = Hub(self.engine, hooks, Limits(config), self.tasks.run, dialect(config.compat))
        self.presence = Presence(self.hub, config.presence, loop, compat=config.compat)
        self.hub.on_user = self._on_user
        self._rechecks = Rechecks(
            config.auth.recheck_interval,
            loop,
            self.tasks,
            recheck=lambda request, known: self._users.recheck(request, known),
            counts=self._user_counts,
        )
        self._admission = Admission(config)
        self._access = self._new_access()
        self._inbox = Inbox(self.hub, hooks, self._new_router(), self.tasks.run)
        self._receive = self._receive_and_log if log.wants_debug else self._inbox.receive

    def _engine_settings(self, config: Config) -> EngineSettings:
        return {
            "max_message_bytes": config.max_buffer_size,
            "max_send_buffer": config.max_send_buffer,
            "slow_reader": config.slow_reader,
            "compression": config.compresses,
            "compression_minimum_size": config.compression.minimum_size,
            "compression_level": config.compression.level,
            "compression_memory_level": config.compression.memory_level,
            "server_context_takeover": config.compression.server_context_takeover,
            "client_context_takeover": config.compression.client_context_takeover,
            "server_window_bits": config.compression.server_window_bits,
            "client_window_bits": config.compression.client_window_bits,
            "max_memory": _max_memory(config),
            "max_connections": _max_connections(config),
            "max_connections_per_ip": config.max_connections_per_ip,
            "max_undecided_handshakes": config.max_undecided_handshakes,
            "handshake_timeout_s": config.handshake_timeout,
            "ping_interval_s": config.effective_ping_interval,
            "ping_timeout_s": config.ping_timeout,
            "close_timeout_s": config.close_timeout,
            "io_uring": config.io_uring,
            "report_idle": bool(self._hooks.idle),
            "max_fragments": config.max_fragments,
            "max_head_bytes": config.max_header_size,
            "max_control_frames_per_s": config.max_control_frames_per_second,
            "trusted_proxies": config.trusted_proxies,
            "forwarding_header": config.forwarding_header,
            "proxy_protocol": config.proxy_protocol,
            "message_rate": (config.rate_limit, config.rate_burst),
        }

    def users_for(self, config: Config) -> Chain:
        """
        Make the sources of users that a configuration names. Files are read anew.

        Raises:
            ConfigError: a source can't be with these settings.

        """
        return Chain(
            sources_of(config, self._function, self._user_counts),
            config,
            may_use_cookies=lambda request: self._admission.may_use_cookies(request),
            counts=self._user_counts,
        )

    def _new_access(self) -> Access:
        return Access(self._config, is_loopback_only=_is_loopback(self.engine.addresses))

    def _new_router(self) -> Router | PhpRouter:
        config = self._config
        parts = (
            self.hub,
            Channels(self.hub),
            self.presence,
            Commands(self.hub, self.presence, self._access, self._commands),
            Tokens(self.hub, self._access, self._identify_token),
            Permissions(config, self._access, self._deciders, counts=self._channel_counts),
        )
        if config.compat == "php":
            return PhpRouter(*parts, self._access, counts=self._compat_counts)
        return Router(*parts, rejects_plain_text=config.plain_text == "reject")

    def _identify_token(self, token: str) -> Awaitable[Identified | None] | None:
        return self._users.identify_token(token)

    # --- life cycle ---------------------------------------------------------------------------

    def begin(self) -> None:
        """Handle what comes from now on."""
        self.engine.notify_when_queued(self._flush_soon)
        self.loop.add_reader(self.engine.fileno(), self._on_ready)
        self._on_timer()
        self._say_hello()

    def _say_hello(self) -> None:
        config = self._config
        for address in self._shown_addresses():
            log.info("listening", address=address, server=PRODUCT)
        tell_of(self._identity, config.tls)
        log.info("shards", count=shard_count(self.engine), threads=thread_count(config.shards))
        log.info(
            "limits",
            max_connections=_max_connections(config),
            max_connections_per_ip=config.max_connections_per_ip,
            max_undecided_handshakes=config.max_undecided_handshakes,
            descriptors=descriptors_allowed(),
            max_header_size=config.max_header_size,
            max_buffer_size=config.max_buffer_size,
            max_fragments=config.max_fragments,
            max_control_frames_per_second=config.max_control_frames_per_second,
            rate_limit=config.rate_limit,
            rate_burst=config.rate_burst,
            max_send_buffer=config.max_send_buffer,
            slow_reader=config.slow_reader,
            max_memory=_max_memory(config),
            max_channels_per_client=config.max_channels_per_client,
            max_channels=config.max_channels,
            max_channel_name_bytes=config.max_channel_name_bytes,
            max_json_depth=config.max_json_depth,
            max_errors=config.max_errors,
            handshake_timeout=config.handshake_timeout,
            ping_interval=config.effective_ping_interval,
            ping_timeout=config.ping_timeout,
            close_timeout=config.close_timeout,
            presence_max_users=config.presence.max_users,
            presence_max_bytes_per_second=config.presence.max_bytes_per_second,
        )
        log.info("commands", access=config.command_access, permitted=self._access.describe())
        self._say_warnings()

    def _say_warnings(self) -> None:
        for warning in self._config.warnings():
            log.warning("configuration", about=warning)

    def use_tls(self, identity: TlsIdentity | None) -> None:
        """Show newcomers this certificate; those who are there keep what they have."""
        self._identity = identity
        self.engine.use_tls(identity)
        tell_of(identity, self._config.tls)

    def reconfigure(self, config: Config, users: Chain) -> None:
        """
        Go on with another configuration, which must have what a restart is needed for as it was.

        It holds for everybody from now on, and nobody is disconnected for it. Whoever has
        presented an operator token that is no longer the one is no operator by it any more. Who
        is being looked up is so where users came from until now; `users` are for those to come.
        """
        self._replace_users(users)
        is_new_token = config.operator_token != self._config.operator_token
        is_new_secret = config.channel_secret != self._config.channel_secret
        self._config = config
        self._tick_s = _tick_s(config, self._systemd)
        self.engine.configure(**self._engine_settings(config))
        self.hub.limits.configure(config)
        self.presence.configure(config.presence)
        self._rechecks.configure(config.auth.recheck_interval)
        self._admission = Admission(config)
        self._access = self._new_access()
        self._inbox.route_with(self._new_router())
        self._receive = self._receive_and_log if log.wants_debug else self._inbox.receive
        for client in self._everyone():
            if is_new_token and client.has_token:
                client.has_token = client.is_operator = False
            if is_new_secret:
                client.grants = frozenset()
            self._admit_to_commands(client)
        if self._timer is not None:
            self._timer.cancel()  # a deadline may have come nearer
            self._arm_timer()
        self._say_warnings()

    def _replace_users(self, users: Chain) -> None:
        former, self._users = self._users, users
        self._former_users.append(former)
        # By then it has answered everybody who was asking.
        self.loop.call_later(
            self._config.handshake_timeout, lambda: self.tasks.run(self._close_former(former))
        )

    async def _close_former(self, users: Chain) -> None:
        if users in self._former_users:
            self._former_users.remove(users)
            await users.aclose()

    async def close_users(self) -> None:
        """Let go of the connections to where users come from."""
        former, self._former_users = self._former_users, []
        for users in (*former, self._users):
            await users.aclose()

    @property
    def counters(self) -> dict[str, int]:
        """Totals of the engine, the hub and the sources of users (`docs/counters.md`)."""
        return {
            **self.engine.counters(),
            **self.hub.counters,
            **self._user_counts,
            **self._channel_counts,
            **self._compat_counts,
        }

    def _everyone(self) -> list[Client]:
        undecided = (each.client for each in self._undecided.values())
        return [*self.hub.by_id.values(), *undecided]

    def _admit_to_commands(self, client: Client) -> None:
        is_here = is_local(client.request)
        client.may_command = self._access.permits_at_connect(is_local=is_here)

    def _shown_addresses(self) -> list[str]:
        is_secure = self._config.tls.is_on
        return [with_scheme(address, is_secure=is_secure) for address in self.engine.addresses]

    def status(self) -> str:
        """Say how it is, for a person."""
        where = ", ".join(self._shown_addresses())
        return f"{len(self.hub.by_handle)} clients on {where}"

    async def unless_stopped(self, pending: Awaitable[None] | None) -> None:
        """Await something, but no longer than until the server is to stop: it is cancelled then."""
        if pending is None:
            return
        task = self.tasks.run(pending)
        stopped = self.loop.create_task(self.stopped.wait())
        try:
            await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.tasks.cancel(task)
            stopped.cancel()

    async def shut_down(self) -> None:
        """Accept no more, close everyone with 1001, wait for them and for the hooks."""
        self.is_stopping = True
        self.presence.stop()
        self._rechecks.stop()
        self._survive(self._close_everyone)
        deadline = self.loop.time() + self._config.close_timeout
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._drained.wait(), self._config.close_timeout)
        await self.tasks.finish(max(0.0, deadline - self.loop.time()))
        log.info("stopped", aborted=self.engine.connection_count)

    def _close_everyone(self) -> None:
        self.engine.stop_listening()
        if self.crashed is None:
            self.engine.close_all(CloseCode.GOING_AWAY, "the server stops")
        else:
            self.engine.close_all(CloseCode.INTERNAL, "internal error")
            self.engine.flush()  # nobody else will
        for undecided in self._undecided.values():
            self.tasks.cancel(undecided.task)  # it is refused, whatever its hooks say
        if not self.engine.connection_count:
            self._drained.set()

    async def within_close_timeout(self, what: str, pending: Awaitable[None] | None) -> None:
        """Await something that must not hold up the end."""
        if pending is None:
            return
        try:
            await asyncio.wait_for(pending, self._config.close_timeout)
        except asyncio.TimeoutError:
            log.warning("cut short", what=what, close_timeout=self._config.close_timeout)

    def abort(self) -> None:
        """End every connection and task that is still there. Does not wait."""
        self._is_aborted = True
        if self._timer is not None:
            self._timer.cancel()
        self.loop.remove_reader(self.engine.fileno())
        self.presence.stop()
        self._rechecks.stop()
        self.engine.notify_when_queued(None)
        self._survive(self.engine.stop_listening)
        self._survive(self.engine.abort_all)
        self._survive(lambda: stop_engine(self.engine))
        self.tasks.cancel_all()
        self.hub.clear()

    # --- faults of our own --------------------------------------------------------------------

    def _survive(self, call: Callable[[], T]) -> T | None:
        """
        Make a call that only a fault of ours can let raise, which then ends the server.

        A panic of the engine is a BaseException: it says that nobody is expected to go on.
        """
        try:
            return call()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._crash(error)
            return None

    def _crash(self, error: BaseException) -> None:
        """End, once: what cannot be polled must not be called again and again."""
        if self.crashed is not None:
            log.limited(logging.ERROR, "failed after the crash", error=error)
            return
        log.exception("crashed", error=error)
        self.crashed = error
        self.loop.remove_reader(self.engine.fileno())
        if self._timer is not None:
            self._timer.cancel()
        self.stopped.set()
        self._drained.set()  # there is nothing to wait for: no end of a connection is reported
        self._notify("crash", error)

    # --- what the engine reports --------------------------------------------------------------

    def _on_ready(self) -> None:
        """Handle everything that has happened, then send everything that this has caused."""
        self._survive(self._handle_batch)
        if self.is_stopping and not self.engine.connection_count:
            self._drained.set()

    def _handle_batch(self) -> None:
        self.engine.handle_batch(self.hub.by_handle, self._receive, self._on_event_guarded)

    def _receive_and_log(self, client: Client, opcode: int, payload: bytes) -> None:
        # Not the payload: it may hold an operator's token.
        log.debug("message received", id=client.id, opcode=opcode, bytes=len(payload))
        self._inbox.receive(client, opcode, payload)

    def _on_event_guarded(self, kind: int, handle: int, content: Any) -> None:
        try:
            self._on_event(kind, handle, content)
        except Exception as error:  # a fault of ours must not lose the rest of the batch
            log.limited(logging.ERROR, "event failed", error=error, kind=kind)

    def _on_event(self, kind: int, handle: int, content: Any) -> None:
        if kind == _core.REQUESTED:
            self._on_requested(handle, content)
        elif kind == _core.CLOSED:
            self._on_closed(handle, *content)
        elif kind == _core.ABANDONED:
            self._on_abandoned(handle, content)
        elif kind == _core.IDLE:
            self._notify("idle", self.hub.by_handle[handle])
        elif kind == _core.ABORTED:
            reason, peer = content
            log.limited(logging.INFO, "connection aborted", source=reason, reason=reason, peer=peer)
        elif kind == _core.RATE_LIMITED:
            self._on_rate_limited(handle)
        elif kind == _core.REFUSED:
            _log_refusal(*content)
        elif kind == _core.TLS_FAILED:
            reason, peer = content
            log.limited(logging.INFO, "tls failed", reason=reason, peer=peer)
        elif kind == _core.DROPPING:
            self._on_dropping(handle, content)
        elif kind == _core.MEMORY_SHORT:
            limit = _max_memory(self._config)
            log.limited(logging.WARNING, "memory is short", held=content, limit=limit)
        elif kind == _core.MEMORY_AMPLE:
            closed = self.engine.counters()["closed_for_memory"]
            log.limited(logging.INFO, "memory is ample", held=content, closed_so_far=closed)
        elif kind == _core.ACCEPT_PAUSED:
            log.limited(logging.WARNING, "accepting paused", error=content)
        elif kind == _core.ACCEPT_RESUMED:
            log.limited(logging.INFO, "accepting resumed")

    def _on_requested(self, handle: int, request: Request) -> None:
        try:
            subprotocol = self._admission.check(request)
        except Refused as refused:
            self._refuse(handle, request, refused)
            return
        client = self.hub.newcomer(handle, request)
        client.subprotocol = subprotocol
        client.has_token = self._access.is_token(bearer_token(request.header("authorization")))
        client.is_operator = client.has_token
        self._admit_to_commands(client)
        verdict = self._judge(client)
        if verdict is None or isinstance(verdict, Refused):
            self._decide(client, verdict)
        else:
            task = self.tasks.run(self._decide_later(client, verdict))
            self._undecided[handle] = _Undecided(client, task)

    def _judge(self, client: Client) -> Awaitable[Refused | None] | Refused | None:
        """Find out who it is, then ask the `connect` hooks."""
        if not self._users.is_needed:
            return self._hooks.admit(client)
        found: Any = self._users.identify(client.request)
        if is_awaitable(found):
            return self._judge_later(client, found)
        return self._judge_as(client, found)

    async def _judge_later(self, client: Client, pending: Awaitable[Any]) -> Refused | None:
        verdict = self._judge_as(client, await pending)
        return verdict if verdict is None or isinstance(verdict, Refused) else await verdict

    def _judge_as(
        self, client: Client, found: Identified | Refused | None
    ) -> Awaitable[Refused | None] | Refused | None:
        if isinstance(found, Refused):
            return found
        if found is not None:
            client.identified = found
            client.user = found.user
        return self._hooks.admit(client)

    async def _decide_later(self, client: Client, verdict: Awaitable[Refused | None]) -> None:
        refused = await verdict
        self._undecided.pop(client.handle, None)
        self._decide(client, refused)

    def _on_abandoned(self, handle: int, reason: str) -> None:
        undecided = self._undecided.pop(handle, None)
        if undecided is not None:
            self.tasks.cancel(undecided.task)
            peer = undecided.client.request.peer
            log.limited(logging.INFO, "handshake refused", reason=reason, peer=peer)

    def _decide(self, client: Client, refused: Refused | None) -> None:
        if refused is not None:
            self._refuse(client.handle, client.request, refused)
            return
        welcomes = self._config.welcome and self.hub.dialect.answers
        first = wire.welcome(client.id, PRODUCT) if welcomes else None
        if not self.engine.accept(client.handle, subprotocol=client.subprotocol, first=first):
            return
        self.hub.add(client)
        if first is not None and self.hub.shows_sent:
            self.hub.show_sent((client,), first)
        if notice := self.hub.dialect.arrival(client.id):
            self.hub.broadcast(notice)
        self.presence.join(client)
        self._rechecks.add(client)
        if log.wants_info:
            log.info(
                "client connected", id=client.id, user=client.user_id, peer=client.request.peer
            )

    def _on_user(self, client: Client) -> None:
        """Show who a client is that has become somebody, or somebody else."""
        self.presence.update(client)
        self._rechecks.add(client)

    def _refuse(self, handle: int, request: Request, refused: Refused) -> None:
        if self.engine.reject(handle, refused.status, refused.reason):
            _log_refusal(refused.status, refused.reason, request.peer)

    def _on_rate_limited(self, handle: int) -> None:
        """Tell a client, once a second at most, that messages of it were refused unread."""
        client = self.hub.by_handle[handle]
        limit = f"at most {self._config.rate_limit:g} messages a second"
        log_limit("rate_limit", client_id=client.id, peer=client.remote_address)
        self.hub.answer_error(client, b"", ErrorCode.RATE_LIMITED, limit)

    def _on_closed(self, handle: int, code: int, reason: str, side: str) -> None:
        client = self.hub.remove(handle)
        if client is None:
            return
        client.close_code = code
        client.close_reason = reason
        if notice := self.hub.dialect.departure(client.id):
            self.hub.broadcast(notice)
        self.presence.leave(client)
        self._rechecks.remove(client)
        if side == "server" and (limit := BY_CLOSE.get((code, reason))):
            log_limit(limit, client_id=client.id, peer=client.remote_address)
        if log.wants_info:
            seconds = int(time.time()) - client.connected_at
            log.info(
                "client disconnected",
                id=client.id,
                code=code,
                reason=reason,
                by=side,
                seconds=seconds,
            )
        self._inbox.say_goodbye(client)

    def _on_dropping(self, handle: int, queued: int) -> None:
        client = self.hub.by_handle.get(handle)
        client_id = client.id if client is not None else None  # it may have ended since
        log.limited(logging.WARNING, "messages dropped", id=client_id, queued_bytes=queued)

    # --- time --------------------------------------------------------------------------

    def _flush_soon(self) -> None:
        self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        if self._survive(self.engine.flush):
            self._survive(self._arm_timer)

    def _on_timer(self) -> None:
        self._on_ready()
        if self.crashed is None:
            # Only here: a loop that hangs, or an engine that failed, gives no sign of life.
            self._systemd.beat(self.loop.time(), self.status)
            self._survive(self._arm_timer)

    def _arm_timer(self) -> None:
        if self._is_aborted:
            return
        if self._timer is not None:
            self._timer.cancel()
        due_s = self.engine.next_deadline_s or MAX_TICK_S
        wait_s = min(max(due_s, MIN_TICK_S), self._tick_s)
        self._timer = self.loop.call_later(wait_s, self._on_timer)

    def _notify(self, event: str, *args: object) -> None:
        pending = self._hooks.notify(event, *args)
        if pending is not None:
            self.tasks.run(pending)


class _Undecided(NamedTuple):
    """A handshake that async `connect` hooks decide about."""

    client: Client
    task: asyncio.Task[None]


def _log_refusal(status: int, reason: str, peer: str) -> None:
    log.limited(
        logging.INFO,
        "handshake refused",
        source=str(status),
        status=status,
        reason=reason,
        peer=peer,
    )


def with_scheme(address: str, *, is_secure: bool) -> str:
    """Return what a client connects to: `ws://127.0.0.1:6001`, `wss://…`, `unix:/path`."""
    scheme = "wss" if is_secure else "ws"
    return address if _is_unix(address) else f"{scheme}://{address}"


def _is_loopback(addresses: list[str]) -> bool:
    """Tell whether every one is a loopback address. A Unix socket is not: proxies use those."""
    if any(map(_is_unix, addresses)):
        return False
    hosts = [address.rpartition(":")[0].strip("[]") for address in addresses]
    return all(ip_address(host.partition("%")[0]).is_loopback for host in hosts)


def _is_unix(address: str) -> bool:
    return address.startswith("unix:")


def _max_memory(config: Config) -> int:
    """Tell how many bytes may be held because of clients; 0: that can't be known."""
    return config.max_memory or memory_allowed() // 2


def _max_connections(config: Config) -> int:
    """Tell how many connections there may be: as configured, else what descriptors allow."""
    allowed = descriptors_allowed()
    reserved = RESERVED_DESCRIPTORS + DESCRIPTORS_OF_A_SHARD * thread_count(config.shards)
    return config.max_connections or allowed - min(reserved, allowed // 2)


def _tick_s(config: Config, systemd: Systemd) -> float:
    """Tell how often to look at deadlines: no later than a quarter of the shortest of them."""
    times = (
        systemd.watchdog_s,
        config.handshake_timeout,
        config.effective_ping_interval,
        config.ping_timeout,
        config.close_timeout,
    )
    shortest = min((each for each in times if each), default=MAX_TICK_S)
    return min(MAX_TICK_S, max(MIN_TICK_S, shortest / 4))
