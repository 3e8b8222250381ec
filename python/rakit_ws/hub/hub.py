"""The hub: every client, and what is sent to whom."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from rakit_ws import wire
from rakit_ws._core import ClientTable
from rakit_ws.codes import CloseCode, ErrorCode, Opcode
from rakit_ws.dialect import Json
from rakit_ws.hub.client import Client, ShownClient
from rakit_ws.hub.showing import Showing
from rakit_ws.log import log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from msgspec import Raw

    from rakit_ws._core import Request
    from rakit_ws.dialect import Dialect
    from rakit_ws.engine import AnyEngine
    from rakit_ws.hub.events import Hooks
    from rakit_ws.limits import Limits

# A handle that the engine never gives: whatever is done with it is done to nobody.
NOBODY = 0

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
# A byte becomes a character modulo 62; the last 8 of 256 would favour some, so they are dropped.
_FAIR_BYTES = 256 // len(_ALPHABET) * len(_ALPHABET)
_TO_CHARACTER = bytes(_ALPHABET[byte % len(_ALPHABET)] for byte in range(256))
_UNFAIR = bytes(range(_FAIR_BYTES, 256))


class Publish(Protocol):
    """Queues a message for the subscribers of a channel."""

    def __call__(self, channel: str, payload: bytes, sender: int = NOBODY, /) -> int:
        """Return for how many."""


class PublishFrom(Protocol):
    """Queues what a client publishes for the subscribers of a channel."""

    def __call__(
        self, client: Client, channel: str, data: Raw, openings: Mapping[str, bytes], /
    ) -> int:
        """Return for how many."""


class Broadcast(Protocol):
    """Queues a message for everyone."""

    def __call__(self, payload: bytes, sender: int = NOBODY, /) -> int:
        """Return for how many."""


class SendEach(Protocol):
    """Queues a message for some clients."""

    def __call__(self, handles: Sequence[int], payload: bytes, sender: int = NOBODY, /) -> int:
        """Return for how many."""


class Hub:
    """
    The clients of one server, and the ways to reach them.

    Who hears which channel is kept by the engine alone; here it is only asked.
    """

    def __init__(
        self,
        engine: AnyEngine,
        hooks: Hooks,
        limits: Limits,
        run_later: Callable[[Awaitable[None]], object],
        dialect: Dialect | None = None,
    ) -> None:
        self.engine = engine
        self.dialect = dialect or Json()
        self.limits = limits
        self.by_handle: ClientTable[Client] = ClientTable()
        self.by_id: dict[str, Client] = {}
        """The same, by id; the oldest first."""
        self.by_user: dict[str, dict[int, Client]] = {}
        """The clients of each user that is here, by handle, oldest first."""
        self.on_user: Callable[[Client], None] = lambda _client: None
        """Called when a client that is here has become another user, or the same one anew."""
        self._showing = Showing(hooks, run_later)
        self._errors_answered = 0
        # Hooks are added before the server runs: without one, nothing stands in between.
        self.shows_sent = bool(hooks.send)
        """Whether there is a `send` hook."""
        self.publish: Publish = self._publish_and_show if hooks.send else engine.publish
        """
        Queue a message for the subscribers of a channel; return for how many.

        The third argument is the handle of the client that has caused it, if one has: it waits
        for recipients that are behind.
        """
        self.publish_from: PublishFrom = (
            self._publish_from_and_show if hooks.send else engine.publish_from
        )
        """
        Queue `openings[channel]`, the data and the client's signature for the subscribers.

        `openings` must always say the same: without a `send` hook it is asked once for as long as
        the channel has one.
        """
        self.broadcast: Broadcast = self._broadcast_and_show if hooks.send else engine.broadcast
        """Queue a message for everyone, otherwise as `publish`."""
        self.send_each: SendEach = self._send_each_and_show if hooks.send else engine.send_each
        """Queue a message for these handles, otherwise as `publish`."""

    # --- who is here --------------------------------------------------------------------------

    def newcomer(self, handle: int, request: Request) -> Client:
        """Make the client of an undecided handshake; it is not in the tables yet."""
        kind = ShownClient if self.shows_sent else Client
        return kind(self, handle, self._unused_id(), request)

    def add(self, client: Client) -> None:
        """Take in a client whose handshake was accepted."""
        self.by_handle[client.handle] = client
        self.by_id[client.id] = client
        if client.user_id is not None:
            self._add_to_user(client.user_id, client)

    def remove(self, handle: int) -> Client | None:
        """Take out the client with this handle and return it, inert, if it is there."""
        client = self.by_handle.take(handle)
        if client is not None:
            del self.by_id[client.id]
            self._remove_from_user(client.user_id, handle)
            client.handle = NOBODY
            client.retire()
        return client

    def reidentified(self, client: Client, before: str | None) -> None:
        """Take note that the user of a client, whose id was `before`, is another one."""
        if client.handle not in self.by_handle:
            return  # undecided, or gone
        if client.user_id != before:
            self._remove_from_user(before, client.handle)
            if client.user_id is not None:
                self._add_to_user(client.user_id, client)
        self.on_user(client)

    def _add_to_user(self, user_id: str, client: Client) -> None:
        self.by_user.setdefault(user_id, {})[client.handle] = client

    def _remove_from_user(self, user_id: str | None, handle: int) -> None:
        if user_id is None:
            return
        clients = self.by_user[user_id]
        del clients[handle]
        if not clients:
            del self.by_user[user_id]

    def named(self, client_id: str) -> Client:
        """Return the client with this id; NotUnderstoodError (unknown_client) if it is not here."""
        client = self.by_id.get(client_id)
        if client is None:
            raise wire.NotUnderstoodError(ErrorCode.UNKNOWN_CLIENT, "there is no such client")
        return client

    def handles_of(self, user_id: str) -> list[int]:
        """Return the handles of a user's clients; [] if it is not here."""
        return list(self.by_user.get(user_id, ()))

    def clear(self) -> None:
        """Forget everyone."""
        self.by_user.clear()
        self.by_handle.clear()
        self.by_id.clear()

    def _unused_id(self) -> str:
        while True:
            client_id = _random_id(self.dialect.id_chars)
            if client_id not in self.by_id:
                return client_id

    # --- what is sent -------------------------------------------------------------------------

    def send(
        self, client: Client, payload: bytes, opcode: int = Opcode.TEXT, sender: int = NOBODY
    ) -> bool:
        """Queue a message for one client; False if it is gone. `sender` as in `publish`."""
        sent = self.engine.send(client.handle, payload, opcode, sender)
        if sent and self.shows_sent:
            self.show_sent((client,), payload, opcode)
        return sent

    def send_to(self, receiver: str | wire.ToUser, payload: bytes, sender: int = NOBODY) -> int:
        """
        Queue a message for the client with this id, or for all clients of a user.

        `sender` as in `publish`.

        Raises:
            NotUnderstoodError: unknown_client.

        """
        if isinstance(receiver, str):
            return int(self.send(self.named(receiver), payload, sender=sender))
        handles = self.handles_of(receiver.user_id)
        if not handles:
            raise wire.NotUnderstoodError(ErrorCode.UNKNOWN_CLIENT, "this user is not here")
        return self.send_each(handles, payload, sender)

    def acknowledge(self, client: Client, request_id: bytes, field: str, value: bytes) -> None:
        """Queue an `ack` with one field (raw JSON) for a client, if it gave an id."""
        if request_id:
            self.send(client, wire.ack(request_id, field, value))

    def answer_error(self, client: Client, request_id: bytes, code: ErrorCode, text: str) -> None:
        """
        Queue an `error` for a client; `request_id` is b"" where it gave none.

        A client that was answered with too many (`max_errors`) is closed behind it, and gets no
        more. Those that are not its own fault do not count.
        """
        if client.error_budget is not None and client.error_budget.is_overdrawn:
            return
        log.debug("error answered", id=client.id, code=code, message=text)
        if self.dialect.answers:
            self._errors_answered += 1
            self.send(client, wire.error(request_id, code, text))
        if code is not ErrorCode.INTERNAL:
            client.error_budget = self.limits.take_error(client.error_budget)
            if client.error_budget.is_overdrawn:
                self.meet_limit("max_errors", client)
                client.disconnect(CloseCode.POLICY, "too many errors")

    def meet_limit(self, option: str, client: Client) -> None:
        """Count, and say in the log, that `client` wanted more than `option` allows."""
        self.limits.meet(option, client_id=client.id, peer=client.remote_address)

    def _publish_and_show(self, channel: str, payload: bytes, sender: int = NOBODY) -> int:
        clients = map(self.by_handle.get, self.engine.subscribers(channel))
        self.show_sent([client for client in clients if client is not None], payload)
        return self.engine.publish(channel, payload, sender)

    def _publish_from_and_show(
        self, client: Client, channel: str, data: Raw, openings: Mapping[str, bytes]
    ) -> int:
        publication = b"".join((openings[channel], data, client.signature))
        return self._publish_and_show(channel, publication, client.handle)

    def _send_each_and_show(
        self, handles: Sequence[int], payload: bytes, sender: int = NOBODY
    ) -> int:
        self.show_sent([self.by_handle[handle] for handle in handles], payload)
        return self.engine.send_each(handles, payload, sender)

    def _broadcast_and_show(self, payload: bytes, sender: int = NOBODY) -> int:
        self.show_sent(list(self.by_id.values()), payload)
        return self.engine.broadcast(payload, sender)

    def show_sent(
        self, clients: Iterable[Client], payload: bytes, opcode: int = Opcode.TEXT
    ) -> None:
        """Tell the `send` hooks. One call for each recipient: the price of having such a hook."""
        self._showing.show(clients, opcode, payload)

    @property
    def counters(self) -> dict[str, int]:
        """Totals of what the engine knows nothing of (`docs/counters.md`)."""
        return {
            "errors_answered": self._errors_answered,
            "deliveries_not_shown": self._showing.missed,
            **self.limits.counters,
        }


def _random_id(size: int) -> str:
    characters = b""
    while len(characters) < size:
        characters += os.urandom(size + 4).translate(_TO_CHARACTER, _UNFAIR)
    return characters[:size].decode()
