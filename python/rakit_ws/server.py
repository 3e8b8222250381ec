"""The server as an application sees it: hooks, life cycle, and what it can be asked to do."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from rakit_ws import log as logs
from rakit_ws import wire
from rakit_ws.auth.function import FunctionSource
from rakit_ws.certificate import read_identity
from rakit_ws.channel_options import Pattern
from rakit_ws.codes import CloseCode
from rakit_ws.custom import Command
from rakit_ws.errors import ConfigError, CrashedError, UsageError
from rakit_ws.hub.events import Hooks
from rakit_ws.layers import changed_settings, load
from rakit_ws.log import log
from rakit_ws.permissions import Decider
from rakit_ws.process import (
    keep_freed_memory,
    raise_descriptor_limit,
    set_lasting_objects_aside,
)
from rakit_ws.reloading import planned
from rakit_ws.running import Running
from rakit_ws.systemd import NOBODY, Systemd

if TYPE_CHECKING:
    from types import TracebackType

    from rakit_ws.config import Config
    from rakit_ws.hub.client import Client
    from rakit_ws.reloading import Reload

HookT = TypeVar("HookT", bound=Callable[..., Any])


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
    files nor the environment are looked at here (but those of the application that `rakit.path` names):
    that is `from_config`, and the command line.
    Everything runs in one event loop, uvloop or plain asyncio, and all methods but
    `call_soon_threadsafe` are to be called in it. Several servers may live in one process.

    Raises:
        ConfigError: a setting that does not exist or cannot be so.

    """

    def __init__(self, *, config: Config | None = None, **settings: Any) -> None:
        if config is not None and settings:
            raise UsageError("give either a Config or settings, not both")
        self.config = load(base=settings) if config is None else config
        own = settings if config is None else changed_settings(config)
        self._settings: Callable[[], Mapping[str, Any]] = lambda: own
        self._source: Callable[[], Config] | None = None
        self._owns_process = False
        self._systemd = NOBODY
        self._reloads = asyncio.Lock()
        self._hooks = Hooks()
        self._commands: dict[str, Command] = {}
        self._function: FunctionSource | None = None
        self._deciders: list[Decider] = []
        self._running: Running | None = None
        self._exit_code = 0

    @classmethod
    def from_config(cls, path: str | Path) -> Server:
        """
        Make a server with the settings of a TOML file and of `RAKIT_WS_…` in the environment.

        `reload` reads both again.

        Raises:
            ConfigError: the file is not there or not TOML, or a setting cannot be so.

        """

        def source() -> Config:
            return load(file=Path(path), environ=os.environ)

        server = cls(config=source())
        server._source = source
        server._settings = lambda: changed_settings(source())
        return server

    # --- before it runs -----------------------------------------------------------------------

    @property
    def settings(self) -> Mapping[str, Any]:
        """What it was made with, defaults left out: what files, environment and flags override."""
        return MappingProxyType(dict(self._settings()))

    def configure(self, config: Config, *, source: Callable[[], Config] | None = None) -> None:
        """
        Replace the configuration; `reload` calls `source` for the next one.

        Raises:
            UsageError: it runs.

        """
        if self._running is not None:
            raise UsageError("a running server cannot be configured")
        self.config = config
        self._source = source

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

    def authenticate(
        self, function: HookT | None = None, *, cookies: bool = True, recheck: bool = False
    ) -> HookT | Callable[[HookT], HookT]:
        """
        Ask a function, sync or async, who a client is: `@server.authenticate`.

        `function(request)` returns a `User`, or any object with `id`, `name` and `email`; None
        for nobody that it knows. It may raise `Refused`, or `SourceDownError` where it can't tell
        (`auth.on_failure`). `auth.sources` says when it is asked; not named there, last.
        One that looks at no cookie says `@server.authenticate(cookies=False)`: then pages of
        every origin may be the user that it names. With `recheck=True` it is asked again every
        `auth.recheck_interval`, and who is somebody else then is closed with 4001.

        Raises:
            UsageError: there is one already, or the server is running.

        """
        self._must_not_run("the function that authenticates is set")

        def add(function: HookT) -> HookT:
            if self._function is not None:
                raise UsageError("one function authenticates; it can ask others")
            self._function = FunctionSource(function, reads_cookies=cookies, rechecks=recheck)
            return function

        return add if function is None else add(function)

    def channel_access(self, pattern: str) -> Callable[[HookT], HookT]:
        """
        Ask a function, sync or async, who may do what in channels: `@server.channel_access("team-*")`.

        `function(client, action, channel)`; `action` is "subscribe", "publish" or "members". What is
        true permits, what is false forbids, None leaves it to the next function and then to
        `channels` of the configuration. `*` in the pattern stands for any characters, or none. While
        an async one runs, the client's next messages wait.

        Raises:
            UsageError: a pattern that is no text, not callable, or the server is running.

        """
        self._must_not_run("functions that decide about channels are added")
        if not isinstance(pattern, str) or not pattern:
            raise UsageError(f"a pattern is the name of a channel, not {pattern!r:.100}")

        def add(function: HookT) -> HookT:
            if not callable(function):
                raise UsageError(f"what decides is a function, not {type(function).__name__}")
            self._deciders.append(Decider(Pattern(pattern), function))
            return function

        return add

    def _must_not_run(self, what: str) -> None:
        if self._running is not None:
            raise UsageError(f"{what} before the server runs")

    # --- running ------------------------------------------------------------------------------

    def run(self) -> int:
        """
        Run until SIGINT, SIGTERM or `stop`; return the exit code: 0, or 1 after a crash.

        Sets up the log as configured, raises the descriptor limit as far as it goes, lets the
        allocator keep 16 MiB, sets what is there after the start aside from the garbage collector
        (`gc.freeze`), and runs a loop of its own, of the kind that `loop` says. A second signal
        ends it at once.

        Raises:
            ListenError: the address is taken, forbidden or cannot be resolved.
            ConfigError: the log file cannot be opened.

        """
        self._owns_process = True
        logs.configure(self.config, in_background=True)
        raise_descriptor_limit()
        keep_freed_memory()
        if self.config.loop == "uvloop":
            import uvloop

            uvloop.run(self._run())
        else:
            asyncio.run(self._run())
        return self._exit_code

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal, number)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        self._systemd = Systemd(os.environ)
        try:
            async with self as server:
                set_lasting_objects_aside()
                self._tell_systemd_of_start()
                with contextlib.suppress(CrashedError):  # it is logged, and the exit code says it
                    await server.serve_forever()
                self._tell_systemd_of_end()
        finally:
            self._systemd.close()

    def _tell_systemd_of_start(self) -> None:
        running = self._require_running()
        if not running.stopped.is_set():
            self._systemd.ready(running.status())

    def _tell_systemd_of_end(self) -> None:
        crash = self._require_running().crashed
        self._systemd.stopping("stopping" if crash is None else f"crashed: {crash!r:.200}")

    def _on_signal(self, number: int) -> None:
        running = self._running
        if running is None or running.stopped.is_set():
            log.warning("stopped at once", signal=signal.Signals(number).name)
            logging.shutdown()
            os._exit(self._exit_code)  # at once: no coroutine gets another turn
        log.info("stopping", signal=signal.Signals(number).name)
        self.stop()

    def _on_hangup(self) -> None:
        """Reload, whatever that may meet: a signal must not end a server that works."""
        log.info("reloading", signal="SIGHUP")
        if self._source is not None:
            self._require_running().tasks.run(self._reload_later(self._source))
            return
        with _surviving():
            if self.config.tls.is_on:
                self.reload_certificate()  # the one thing of it that does not stand in code
            else:
                self.reload()

    async def _reload_later(self, source: Callable[[], Config]) -> None:
        """Reload; read in a thread, as that may ask PHP about an application."""
        with _surviving():
            async with self._reloads:
                with self._systemd.reloading():
                    wanted = await asyncio.get_running_loop().run_in_executor(None, source)
                    self._go_on_with(planned(self.config, wanted))

    async def __aenter__(self) -> Server:
        """Listen, and call the `start` hooks."""
        self._must_not_run("a server is entered")
        log.refresh()
        self._exit_code = 0
        loop = asyncio.get_running_loop()
        self._running = Running(
            self.config,
            self._hooks,
            self._commands,
            loop,
            self._systemd,
            function=self._function,
            deciders=self._deciders,
        )
        try:
            self._running.begin()
            await self._running.unless_stopped(self._hooks.notify("start", self))
        except BaseException:
            running, self._running = self._running, None
            running.abort()
            await running.close_users()
            raise
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
            await running.within_close_timeout("stop hook", self._hooks.notify("stop", self))
        finally:
            running.abort()
            await running.within_close_timeout("sources of users", running.close_users())
            self._exit_code = 0 if running.crashed is None else 1
            self._running = None

    async def serve_forever(self) -> None:
        """
        Wait until `stop` is called.

        Raises:
            CrashedError: the server has ended by a fault of its own.

        """
        running = self._require_running()
        await running.stopped.wait()
        if running.crashed is not None:
            raise CrashedError("the server crashed") from running.crashed

    def reload(self) -> Reload:
        """
        Read the configuration again from where it came, and go on with it; return what is new.

        Certificate and key are read again too, whether or not they have other names.

        What a running server cannot change (`docs/options.md`) stays as it was, and is logged
        as a warning. Nobody is disconnected, and no message is lost. The log is set up anew
        only where `run` has set it up. With `rakit.path` it may wait for PHP, 0.1 s or up to 5 s for
        each of two runs; SIGHUP has that done in a thread.

        Raises:
            ConfigError: it is wrong, a file of TLS cannot be used, the log file cannot be opened,
                or a source of users can't be with it; nothing has changed.
            UsageError: the server is not running, or stops, or has its settings from code.

        """
        self._must_go_on()
        with self._systemd.reloading():
            plan = self._planned()
            self._go_on_with(plan)
        return plan

    def _must_go_on(self) -> Running:
        running = self._require_running()
        if running.stopped.is_set():
            raise UsageError("the server stops")
        return running

    def _go_on_with(self, plan: Reload) -> None:
        running = self._must_go_on()
        identity = read_identity(plan.config.tls)
        users = running.users_for(plan.config)
        if self._owns_process:
            logs.configure(plan.config, in_background=True)
        else:
            log.refresh()
        running.reconfigure(plan.config, users)
        running.use_tls(identity)
        self.config = plan.config
        log.info("reloaded", **(plan.changed or {"changed": "nothing"}))
        if plan.postponed:
            log.warning("restart needed", **plan.postponed)

    def _planned(self) -> Reload:
        if self._source is None:
            raise UsageError("the configuration was given by code: there is nothing to read again")
        return planned(self.config, self._source())

    def reload_certificate(self) -> None:
        """
        Read `tls.certificate` and `tls.key` again, which were renewed, for clients to come.

        Those who are connected keep what they have. `reload` does this too.

        Raises:
            ConfigError: they cannot be used; those that are in force stay so.
            UsageError: the server is not running, or speaks no TLS.

        """
        running = self._require_running()
        if not self.config.tls.is_on:
            raise UsageError("the server speaks no TLS")
        running.use_tls(read_identity(self.config.tls))

    def stop(self) -> None:
        """Let `serve_forever` return; leaving the `async with` then closes everyone."""
        self._require_running().stopped.set()

    def call_soon_threadsafe(self, function: Callable[..., Any], *args: Any) -> None:
        """Call `function` in the server's loop; for code in other threads."""
        self._require_running().loop.call_soon_threadsafe(function, *args)

    def _require_running(self) -> Running:
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
        """What has been done so far; `docs/counters.md` says what each one counts."""
        return self._require_running().counters

    def broadcast(self, message: object) -> Delivered:
        """
        Send `{"type":"broadcast","message":…}` to everyone.

        NaN goes out as null. Raises UsageError for what JSON can't hold, or if the server is
        not running.
        """
        hub = self._require_running().hub
        return Delivered(hub.broadcast(hub.dialect.broadcast(message)))

    def publish(self, channel: str, data: object) -> Delivered:
        """
        Send `{"type":"channel","channel":…,"data":…}` to the subscribers of `channel`.

        NaN goes out as null. Raises UsageError for what JSON can't hold, for a name that no
        channel can have, or if the server is not running.
        """
        hub = self._require_running().hub
        if not wire.is_channel(channel):
            raise UsageError(f"no channel can be called {channel!r:.100}")
        return Delivered(hub.publish(channel, hub.dialect.publication(channel, data)))

    def send(self, client: Client | str, message: object) -> Delivered:
        """
        Send `{"type":"private","message":…}` to one client, given as such or by its id.

        Returns 0 if it is gone. NaN goes out as null. Raises UsageError for what JSON can't
        hold, or if the server is not running.
        """
        found = self._client(client)
        return Delivered(found is not None and found.send(message))

    def send_user(self, user_id: str | int, message: object) -> Delivered:
        """
        Send `{"type":"private","message":…}` to all clients of a user, given by its id.

        Returns 0 if it is not here. NaN goes out as null. Raises UsageError for what JSON can't
        hold, or if the server is not running.
        """
        hub = self._require_running().hub
        payload = hub.dialect.private(message)
        return Delivered(hub.send_each(hub.handles_of(str(user_id)), payload))

    def clients_of(self, user_id: str | int) -> list[Client]:
        """Return the clients of a user, given by its id, oldest first."""
        return list(self._require_running().hub.by_user.get(str(user_id), {}).values())

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

    def disconnect_user(
        self,
        user_id: str | int,
        code: int = CloseCode.SESSION_ENDED,
        reason: str = "the session has ended",
    ) -> int:
        """
        Close all clients of a user, given by its id; return how many there were.

        By default with 4001, which asks them to log in first. Raises as `disconnect`.
        """
        return sum(client.disconnect(code, reason) for client in self.clients_of(user_id))

    def _client(self, client: Client | str) -> Client | None:
        hub = self._require_running().hub
        return hub.by_id.get(client) if isinstance(client, str) else client


@contextlib.contextmanager
def _surviving() -> Iterator[None]:
    """Log what a reload by a signal raises, instead of raising it."""
    try:
        yield
    except (ConfigError, UsageError) as error:
        log.error("not reloaded", reason=error)
    except Exception as error:  # e.g. of an application's `source`
        log.exception("not reloaded", error=error)
