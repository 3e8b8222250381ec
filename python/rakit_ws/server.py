"""The server: assembly and life cycle. The only file that knows every part."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from rakit_ws import _core, wire
from rakit_ws import log as logs
from rakit_ws._core import Engine
from rakit_ws.admission import Admission, is_direct
from rakit_ws.codes import CloseCode
from rakit_ws.commands import Access, Command, Commands, bearer_token
from rakit_ws.config import Config, load
from rakit_ws.errors import Refused, UsageError
from rakit_ws.hub.channels import Channels
from rakit_ws.hub.events import Hooks
from rakit_ws.hub.hub import Hub
from rakit_ws.hub.presence import Presence
from rakit_ws.inbox import Inbox
from rakit_ws.log import log
from rakit_ws.router import Router

if TYPE_CHECKING:
    from types import TracebackType

    from rakit_ws._core import Request
    from rakit_ws.hub.client import Client

HookT = TypeVar("HookT", bound=Callable[..., Any])

PRODUCT = f"rakit_ws/{_core.__version__}"

# Descriptors that connections must leave to the log, brokers and the application.
RESERVED_DESCRIPTORS = 64

# The engine's deadlines are looked at this often at least, at most and when stopping.
MAX_TICK_S = 1.0
MIN_TICK_S = 0.02
DRAIN_TICK_S = 0.02


class Delivered(int):
    """
    How many clients a message was queued for.

    It may be awaited too, so that the same call reads well in sync and async code; awaiting
    lets other tasks run once, and what was queued be sent.
    """

    def __await__(self) -> Generator[Any, None, int]:
        yield from asyncio.sleep(0).__await__()
        return int(self)


class Server:
    """
    A WebSocket server that speaks the protocol of the Rakit framework.

    Settings are those of `docs/options.md`, as keyword arguments; a table is a dict. Neither
    files nor the environment are looked at here: that is `from_config`, and the command line.
    Everything runs in one event loop, uvloop or plain asyncio, and all methods but
    `call_soon_threadsafe` are to be called in it. Several servers may live in one process.

    Raises:
        ConfigError: a setting that does not exist or cannot be so.

    """

    def __init__(self, *, config: Config | None = None, **settings: Any) -> None:
        if config is not None and settings:
            raise UsageError("give either a Config or settings, not both")
        self._settings = settings
        self.config = load(base=settings, environ={}) if config is None else config
        self._hooks = Hooks()
        self._commands: dict[str, Command] = {}
        self._running: _Running | None = None
        self._exit_code = 0

    @classmethod
    def from_config(cls, path: str | Path) -> Server:
        """
        Make a server with the settings of a TOML file and of `RAKIT_WS_…` in the environment.

        Raises:
            ConfigError: the file is not there or not TOML, or a setting cannot be so.

        """
        return cls(config=load(file=Path(path), environ=os.environ))

    # --- before it runs -----------------------------------------------------------------------

    @property
    def settings(self) -> Mapping[str, Any]:
        """The keyword arguments it was made with: what files, environment and flags override."""
        return MappingProxyType(self._settings)

    def configure(self, config: Config) -> None:
        """Replace the configuration; UsageError while it runs."""
        if self._running is not None:
            raise UsageError("a running server cannot be configured")
        self.config = config

    def on(self, event: str) -> Callable[[HookT], HookT]:
        """
        Add a hook, sync or async: `@server.on("connect")`.

        - `start(server)`, `stop(server)`: it listens; everyone is gone.
        - `connect(client)`: before the handshake is answered. False, or raising `Refused`,
          refuses it; any other exception refuses it with 500.
        - `disconnect(client)`: after its last message; `close_code` and `close_reason` say why.
        - `receive(client, opcode, payload)`: each message, before routing. True takes it over.
          While an async one runs, the client's next messages wait.
        - `send(client, opcode, payload)`: each delivery. One call for each recipient; without
          such a hook none.
        - `idle(client)`: nothing came for `ping_interval`, a Ping goes out.
        - `crash(error)`: the server ends by a fault of its own.

        Raises:
            UsageError: no such event, or the server is running.

        """
        self._must_not_run("hooks are added")

        def add(hook: HookT) -> HookT:
            return self._hooks.add(event, hook)

        return add

    def command(self, name: str, *, access: str | None = None) -> Callable[[HookT], HookT]:
        """
        Add a command: `@server.command("time")` on `def time(client, zone: str) -> object`.

        `{"command":"time","zone":"Asia/Jakarta","id":1}` calls it; what it returns (or its
        coroutine) is the ack's `result`. Keys are converted to the parameters' types. It may be
        given by whom `command_access` permits, or by `access`: "everyone", "operators", "nobody".

        Raises:
            UsageError: one of the protocol's own names, parameters that have no name, another
                access, or the server is running.

        """
        self._must_not_run("commands are added")

        def add(handler: HookT) -> HookT:
            self._commands[name] = Command(name, handler, access)
            return handler

        return add

    def _must_not_run(self, what: str) -> None:
        if self._running is not None:
            raise UsageError(f"{what} before the server runs")

    # --- running ------------------------------------------------------------------------------

    def run(self) -> int:
        """
        Run until SIGINT, SIGTERM or `stop`; return the exit code: 0, or 1 after a crash.

        Sets up the log as configured, raises the descriptor limit as far as it goes, and runs
        a loop of its own, of the kind that `loop` says. A second signal ends it at once.

        Raises:
            ListenError: the address is taken, forbidden or cannot be resolved.
            ConfigError: the log file cannot be opened.

        """
        logs.configure(self.config)
        _raise_descriptor_limit()
        if self.config.loop == "uvloop":
            import uvloop  # noqa: PLC0415 - only where it is used

            uvloop.run(self._run())
        else:
            asyncio.run(self._run())
        return self._exit_code

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal, number)
        async with self:
            await self.serve_forever()

    def _on_signal(self, number: int) -> None:
        running = self._running
        if running is None or running.is_stopping:
            log.warning("stopped at once", signal=signal.Signals(number).name)
            logging.shutdown()
            os._exit(self._exit_code)  # at once: no coroutine gets another turn
        log.info("stopping", signal=signal.Signals(number).name)
        self.stop()

    async def __aenter__(self) -> Server:
        """Listen, and call the `start` hooks."""
        self._must_not_run("a server is entered")
        log.refresh()
        self._exit_code = 0
        self._running = _Running(self, asyncio.get_running_loop())
        try:
            self._running.listen()
        except BaseException:
            self._running.abort()
            self._running = None
            raise
        await _awaited(self._hooks.notify("start", self))
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close everyone with 1001, drain for at most `close_timeout`, call the `stop` hooks."""
        running = self._require_running()
        try:
            await running.shut_down()
            await _awaited(self._hooks.notify("stop", self))
        finally:
            running.abort()
            self._running = None

    async def serve_forever(self) -> None:
        """Wait until `stop` is called, or the server crashes."""
        await self._require_running().stopped.wait()

    def stop(self) -> None:
        """Let `serve_forever` return; leaving the `async with` then closes everyone."""
        self._require_running().stopped.set()

    def call_soon_threadsafe(self, function: Callable[..., Any], *args: Any) -> None:
        """Call `function` in the server's loop; for code in other threads."""
        self._require_running().loop.call_soon_threadsafe(function, *args)

    def _require_running(self) -> _Running:
        if self._running is None:
            raise UsageError("the server is not running")
        return self._running

    # --- for code in the same loop ------------------------------------------------------------

    @property
    def addresses(self) -> list[str]:
        """Where it listens: `127.0.0.1:6001`, `[::1]:6001`, `unix:/path`."""
        return self._require_running().engine.addresses

    @property
    def clients(self) -> Mapping[str, Client]:
        """Every client by its id, oldest first. A view: it changes as they come and go."""
        return MappingProxyType(self._require_running().hub.by_id)

    @property
    def channels(self) -> dict[str, int]:
        """Every channel that somebody hears, with the number of its subscribers."""
        return self._require_running().engine.topics()

    @property
    def counters(self) -> dict[str, int]:
        """What the engine has done so far; `docs/counters.md` says what each one counts."""
        return self._require_running().engine.counters()

    def broadcast(self, message: object) -> Delivered:
        """
        Send `{"type":"broadcast","message":…}` to everyone.

        Raises TypeError for what JSON can't hold, UsageError if the server is not running.
        """
        hub = self._require_running().hub
        return Delivered(hub.broadcast(wire.server_broadcast(wire.encode(message))))

    def publish(self, channel: str, data: object) -> Delivered:
        """
        Send `{"type":"channel","channel":…,"data":…}` to the subscribers of `channel`.

        Raises TypeError for what JSON can't hold, UsageError for a name that no channel can
        have or if the server is not running.
        """
        hub = self._require_running().hub
        if not wire.is_channel(channel):
            raise UsageError(f"no channel can be called {channel!r:.100}")
        return Delivered(hub.publish(channel, wire.publication(channel, wire.encode(data), b"}")))

    def send(self, client: Client | str, message: object) -> Delivered:
        """
        Send `{"type":"private","message":…}` to one client, given as such or by its id.

        Returns 0 if it is gone. Raises TypeError for what JSON can't hold, UsageError if the
        server is not running.
        """
        found = self._client(client)
        return Delivered(found is not None and found.send(message))

    def disconnect(
        self,
        client: Client | str,
        code: int = CloseCode.DISCONNECTED,
        reason: str = "disconnected by server",
    ) -> bool:
        """
        Close one client behind what is queued for it; tell whether it was there.

        Raises UsageError for a code that must not be sent, or if the server is not running.
        """
        found = self._client(client)
        return found is not None and found.disconnect(code, reason)

    def _client(self, client: Client | str) -> Client | None:
        hub = self._require_running().hub
        return hub.by_id.get(client) if isinstance(client, str) else client


class _Running:
    """The parts of a server while it runs, and what the engine reports to them."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.stopped = asyncio.Event()
        self.is_stopping = False
        self._server = server
        self._config = server.config
        self._hooks = server._hooks  # noqa: SLF001 - two halves of one thing
        self._max_connections = server.config.max_connections or _connections_allowed()
        self.engine = self._new_engine()
        self.hub = Hub(self.engine, self._hooks, self._run_later)
        self.presence = Presence(self.hub, self._config.presence, loop)
        self._admission = Admission(self._config)
        self._tasks: set[asyncio.Task[None]] = set()
        self._undecided: dict[int, asyncio.Task[None]] = {}
        self._tick_s = _tick_s(self._config)
        self._timer: asyncio.TimerHandle | None = None

    def _new_engine(self) -> Engine:
        config = self._config
        return Engine(
            max_message_bytes=config.max_buffer_size,
            max_send_buffer=config.max_send_buffer,
            max_connections=self._max_connections,
            max_connections_per_ip=config.max_connections_per_ip,
            max_undecided_handshakes=config.max_undecided_handshakes,
            handshake_timeout_s=config.handshake_timeout,
            ping_interval_s=config.effective_ping_interval,
            ping_timeout_s=config.ping_timeout,
            close_timeout_s=config.close_timeout,
            report_idle=bool(self._hooks.idle),
            on_queued=self._flush_soon,
        )

    # --- life cycle ---------------------------------------------------------------------------

    def listen(self) -> None:
        """Listen, and handle what comes. Raises ListenError."""
        config = self._config
        self.engine.listen(config.host, config.port)
        self._access = Access(config, is_loopback_only=_is_loopback(self.engine.addresses))
        channels = Channels(self.hub, max_per_client=config.max_channels_per_client)
        commands = Commands(
            self.hub,
            channels,
            self.presence,
            self._access,
            self._server._commands,  # noqa: SLF001 - as above
        )
        rejects = config.plain_text == "reject"
        router = Router(self.hub, channels, commands, rejects_plain_text=rejects)
        self._inbox = Inbox(self.hub, self._hooks, router, self._run_later)
        self.loop.add_reader(self.engine.fileno(), self._on_ready)
        self._on_timer()
        self._say_hello()

    def _say_hello(self) -> None:
        config = self._config
        for address in self.engine.addresses:
            scheme = "" if address.startswith("unix:") else "ws://"
            log.info("listening", address=f"{scheme}{address}", server=PRODUCT)
        log.info(
            "limits",
            max_connections=self._max_connections,
            descriptors=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
            max_buffer_size=config.max_buffer_size,
            max_send_buffer=config.max_send_buffer,
            max_channels_per_client=config.max_channels_per_client,
            handshake_timeout=config.handshake_timeout,
            ping_interval=config.effective_ping_interval,
            ping_timeout=config.ping_timeout,
        )
        log.info("commands", access=config.command_access, permitted=self._access.describe())
        for warning in config.warnings():
            log.warning("configuration", about=warning)

    async def shut_down(self) -> None:
        """Accept no more, close everyone with 1001, wait for them and for the hooks."""
        self.is_stopping = True
        self.presence.stop()
        self.engine.stop_listening()
        self.engine.close_all(CloseCode.GOING_AWAY, "the server stops")
        deadline = self.loop.time() + self._config.close_timeout
        while self.engine.connection_count and self.loop.time() < deadline:
            await asyncio.sleep(DRAIN_TICK_S)
        left_s = max(0.0, deadline - self.loop.time())
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=left_s)
        log.info("stopped", aborted=self.engine.connection_count)

    def abort(self) -> None:
        """End every connection and task that is still there. Does not wait."""
        if self._timer is not None:
            self._timer.cancel()
        self.loop.remove_reader(self.engine.fileno())
        self.presence.stop()
        self.engine.stop_listening()
        self.engine.abort_all()
        for task in self._tasks:
            task.cancel()

    def _crash(self, error: Exception) -> None:
        """End by a fault of our own: the engine cannot be polled."""
        log.exception("crashed", error=error)
        self._server._exit_code = 1  # noqa: SLF001 - as above
        self.loop.remove_reader(self.engine.fileno())
        self.stopped.set()
        pending = self._hooks.notify("crash", error)
        if pending is not None:
            self._run_later(pending)

    # --- what the engine reports --------------------------------------------------------------

    def _on_ready(self) -> None:
        """Handle everything that has happened, then send everything that this has caused."""
        try:
            events = self.engine.poll()
        except OSError as error:
            self._crash(error)
            return
        clients = self.hub.by_handle
        receive = self._inbox.receive
        try:
            for kind, handle, content in events:
                if kind <= _core.BINARY:
                    # The engine reports no message of a client behind its end.
                    receive(clients[handle], kind, content)
                else:
                    self._on_event_guarded(kind, handle, content)
        finally:
            self.engine.flush()

    def _on_event_guarded(self, kind: int, handle: int, content: Any) -> None:
        try:
            self._on_event(kind, handle, content)
        except Exception as error:  # a fault of ours must not lose the rest of the batch
            log.exception("event failed", error=error, kind=kind)

    def _on_event(self, kind: int, handle: int, content: Any) -> None:
        if kind == _core.REQUESTED:
            self._on_requested(handle, content)
        elif kind == _core.CLOSED:
            self._on_closed(handle, *content)
        elif kind == _core.ABANDONED:
            task = self._undecided.pop(handle, None)
            if task is not None:
                task.cancel()
        elif kind == _core.IDLE:
            self._notify("idle", self.hub.by_handle[handle])
        elif kind == _core.REFUSED:
            _log_refusal(*content)
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
        client.is_operator = self._access.is_token(bearer_token(request.header("authorization")))
        client.may_command = self._access.permits_at_connect(is_direct=is_direct(request))
        verdict = self._hooks.admit(client)
        if verdict is None or isinstance(verdict, Refused):
            self._decide(client, verdict)
        else:
            self._undecided[handle] = self._run_later(self._decide_later(client, verdict))

    async def _decide_later(self, client: Client, verdict: Awaitable[Refused | None]) -> None:
        try:
            self._decide(client, await verdict)
        finally:
            self._undecided.pop(client.handle, None)

    def _decide(self, client: Client, refused: Refused | None) -> None:
        if refused is not None:
            self._refuse(client.handle, client.request, refused)
            return
        first = wire.welcome(client.id, PRODUCT) if self._config.welcome else None
        if not self.engine.accept(client.handle, subprotocol=client.subprotocol, first=first):
            return
        self.hub.add(client)
        if first is not None and self.hub.shows_sent:
            self.hub.show_sent((client,), first)
        self.presence.join(client)
        if log.wants_info:
            log.info("client connected", id=client.id, user=client.user, peer=client.request.peer)

    def _refuse(self, handle: int, request: Request, refused: Refused) -> None:
        if self.engine.reject(handle, refused.status, refused.reason):
            _log_refusal(refused.status, refused.reason, request.peer)

    def _on_closed(self, handle: int, code: int, reason: str, side: str) -> None:
        client = self.hub.remove(handle)
        if client is None:
            return
        client.close_code = code
        client.close_reason = reason
        self.presence.leave(client)
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

    # --- time, tasks --------------------------------------------------------------------------

    def _flush_soon(self) -> None:
        self.loop.call_soon(self.engine.flush)

    def _on_timer(self) -> None:
        self._on_ready()
        due_s = self.engine.next_deadline_s
        wait_s = self._tick_s if due_s is None else min(max(due_s, MIN_TICK_S), self._tick_s)
        self._timer = self.loop.call_later(wait_s, self._on_timer)

    def _notify(self, event: str, *args: object) -> None:
        pending = self._hooks.notify(event, *args)
        if pending is not None:
            self._run_later(pending)

    def _run_later(self, awaitable: Awaitable[None]) -> asyncio.Task[None]:
        """Run what is left of a hook beside everything else; faults are logged."""
        task: asyncio.Task[None] = self.loop.create_task(_guarded(awaitable))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _guarded(awaitable: Awaitable[None]) -> None:
    try:
        await awaitable
    except Exception as error:  # hooks guard themselves, so it is ours; the others go on
        log.exception("task failed", error=error)


async def _awaited(pending: Awaitable[None] | None) -> None:
    if pending is not None:
        await pending


def _log_refusal(status: int, reason: str, peer: str) -> None:
    log.limited(logging.INFO, "handshake refused", status=status, reason=reason, peer=peer)


def _is_loopback(addresses: list[str]) -> bool:
    """Tell whether only this machine can reach every one of these addresses."""
    hosts = [address.rpartition(":")[0] for address in addresses if not _is_unix(address)]
    return all(ip_address(host.strip("[]").partition("%")[0]).is_loopback for host in hosts)


def _is_unix(address: str) -> bool:
    return address.startswith("unix:")


def _connections_allowed() -> int:
    """Tell how many connections the descriptor limit allows."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, soft - RESERVED_DESCRIPTORS)


def _raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # macOS reports no hard limit and takes none beyond its own: then the soft one stays.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _tick_s(config: Config) -> float:
    """Tell how often to look at deadlines: no later than a quarter of the shortest of them."""
    times = (
        config.handshake_timeout,
        config.effective_ping_interval,
        config.ping_timeout,
        config.close_timeout,
    )
    shortest = min((each for each in times if each), default=MAX_TICK_S)
    return min(MAX_TICK_S, max(MIN_TICK_S, shortest / 4))
