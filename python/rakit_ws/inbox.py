"""From the engine's messages to hooks and router, in order for each client."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Final

from rakit_ws._core import Receiver
from rakit_ws.codes import CloseCode
from rakit_ws.hub.client import NO_MORE
from rakit_ws.hub.events import FAULTS, report
from rakit_ws.log import log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rakit_ws.hub.client import Client
    from rakit_ws.hub.events import Hooks
    from rakit_ws.hub.hub import Hub
    from rakit_ws.php_router import PhpRouter
    from rakit_ws.router import Router

# Messages of one client that may wait for an async hook before its socket is read no more.
MAX_WAITING = 64

# Stands behind the last message of a client that has gone.
_GOODBYE: Final = -1


class Inbox:
    """
    Hands each message to the `receive` hooks, then to the router.

    While an async hook or command of a client runs, its next messages wait in its mailbox:
    what one client sends is handled in that order (protocol, ground rule 5). Others do not
    wait.
    """

    def __init__(
        self,
        hub: Hub,
        hooks: Hooks,
        router: Router | PhpRouter,
        run_later: Callable[[Awaitable[None]], object],
    ) -> None:
        self._hub = hub
        self._hooks = hooks
        self._run_later = run_later
        self.route_with(router)

    def route_with(self, router: Router | PhpRouter) -> None:
        """Hand messages to another router from now on, those that wait in mailboxes too."""
        self._route = router.route
        # Hooks are added before the server runs.
        hooks = self._hooks.receive
        first = hooks[0] if hooks else router.shortcut() or self._handle_at_once
        rest = self._handle_behind_hook if hooks else self._handle_unless_done
        self.receive = Receiver(first, rest, self._keep)
        """
        Handle a message now, or as soon as those before it are handled.

        One that the first hook takes over, or that the router has a shortcut for, costs no
        further call (make bench-guard: hook, route).
        """

    def _handle_behind_hook(
        self,
        client: Client,
        opcode: int,
        payload: bytes,
        result: object,
        error: BaseException | None,
    ) -> None:
        """Go on where the first `receive` hook has returned `result`, or raised."""
        if error is not None:
            if not isinstance(error, FAULTS):
                raise error
            report(error, "receive", self._hooks.receive[0])
        args = (client, opcode, payload)
        self._begin(client, self._go_on(*args, taken=self._hooks.take_rest(result, args)))

    def _handle_at_once(self, client: Client, opcode: int, payload: bytes) -> bool:
        """Handle a message where there is neither a hook nor a shortcut."""
        self._begin(client, self._go_on(client, opcode, payload, taken=False))
        return True

    def _handle_unless_done(
        self,
        client: Client,
        opcode: int,
        payload: bytes,
        _result: object,
        error: BaseException | None,
    ) -> None:
        """Handle a message that was none for the shortcut, or a fault of ours there."""
        if error is None:
            self._handle_at_once(client, opcode, payload)
        elif isinstance(error, Exception):  # as in _go_on
            self._fail(client, error)
        else:
            raise error

    def _keep(self, client: Client, opcode: int, payload: bytes) -> None:
        """Let a message wait for those before it."""
        if client.mailbox is not None and not client.is_leaving:
            client.mailbox.append((opcode, payload))
            if len(client.mailbox) == MAX_WAITING:
                self._hub.engine.pause_reading(client.handle)

    def _begin(self, client: Client, pending: Awaitable[None] | None) -> None:
        """Let messages of a client wait until `pending` is done, if there is something."""
        if pending is not None:
            client.mailbox = deque()
            self._run_later(self._work_through(client, pending))

    def say_goodbye(self, client: Client) -> None:
        """Tell the `disconnect` hooks, behind the client's last message."""
        if client.mailbox is not None and client.mailbox is not NO_MORE:
            client.mailbox.append((_GOODBYE, b""))
            return
        pending = self._hooks.notify("disconnect", client)
        if pending is not None:
            self._run_later(pending)

    def _handle(self, client: Client, opcode: int, payload: bytes) -> Awaitable[None] | None:
        args = (client, opcode, payload)
        return self._go_on(*args, taken=bool(self._hooks.receive) and self._hooks.take(*args))

    def _go_on(
        self, client: Client, opcode: int, payload: bytes, *, taken: Awaitable[bool] | bool
    ) -> Awaitable[None] | None:
        """Route a message unless a hook has taken it over, or will have."""
        if taken is True or client.is_leaving:
            return None
        if taken is not False:
            return self._route_unless_taken(taken, client, opcode, payload)
        try:
            return self._route(client, opcode, payload)
        except Exception as error:  # a fault of ours must not end the batch for the others
            self._fail(client, error)
            return None

    async def _route_unless_taken(
        self, taken: Awaitable[bool], client: Client, opcode: int, payload: bytes
    ) -> None:
        if not await taken and not client.is_leaving:
            pending = self._route(client, opcode, payload)
            if pending is not None:
                await pending

    async def _work_through(self, client: Client, pending: Awaitable[None]) -> None:
        """Await the job that is under way, then handle what came meanwhile."""
        mailbox = client.mailbox
        if mailbox is None:
            raise AssertionError("a client works through its mailbox only while it has one")
        next_job: Awaitable[None] | None = pending
        try:
            while True:
                if next_job is not None:
                    await self._finished(client, next_job)
                if not mailbox:
                    break
                if len(mailbox) == MAX_WAITING:
                    self._hub.engine.resume_reading(client.handle)
                opcode, payload = mailbox.popleft()
                if opcode == _GOODBYE:
                    next_job = self._hooks.notify("disconnect", client)
                else:
                    next_job = self._handle(client, opcode, payload)
        finally:
            client.mailbox = None
            if mailbox:  # it was cancelled, perhaps while the client was not read
                self._hub.engine.resume_reading(client.handle)

    async def _finished(self, client: Client, job: Awaitable[None]) -> None:
        try:
            await job
        except Exception as error:  # as in _handle
            self._fail(client, error)

    def _fail(self, client: Client, error: Exception) -> None:
        log.limited(logging.ERROR, "message failed", error=error, id=client.id)
        client.disconnect(CloseCode.INTERNAL, "internal error")
