"""A connected client."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from rakit_ws import wire
from rakit_ws._core import ClientBase
from rakit_ws.codes import CloseCode
from rakit_ws.errors import UsageError
from rakit_ws.log import log
from rakit_ws.user import id_of

if TYPE_CHECKING:
    from typing_extensions import Self

    from rakit_ws._core import Request
    from rakit_ws.hub.hub import Hub
    from rakit_ws.limits import ErrorBudget
    from rakit_ws.user import Identified

GUEST = "Guest"
_NOTHING: Final[frozenset[str]] = frozenset()

NO_MORE: Final[deque[tuple[int, bytes]]] = deque(maxlen=0)
"""The mailbox of clients that were disconnected while no async hook of them ran: it stays empty."""


class Client(ClientBase):
    """
    One connection that was accepted, or that a `connect` hook is deciding about.

    In a `connect` hook messages and subscriptions are taken already: they become effective
    behind the welcome, if the client is accepted. After its end a client is inert: nothing
    that is sent to it goes anywhere, and no call raises.
    """

    __slots__ = (
        "_data",
        "_hub",
        "_user",
        "close_code",
        "close_reason",
        "error_budget",
        "grants",
        "handle",
        "id",
        "identified",
        "request",
        "subprotocol",
        "user_id",
    )

    id: str
    """16 characters of [A-Za-z0-9] (`compat = "php"`: 8): an address, not a secret."""
    request: Request
    """Its opening handshake: path, headers."""
    subprotocol: str | None
    """The subprotocol that was agreed on."""
    user_id: str | None
    """The `id` of its user, as text; None: a guest, or one whose user has none."""
    close_code: int | None
    """The status code that the connection ended with; None while it lives (RFC 6455 §7.1.5)."""
    close_reason: str
    """The reason that came with it."""
    error_budget: ErrorBudget | None
    """What it may still do wrong; None: it has done nothing wrong yet."""
    identified: Identified | None
    """What a source of users has said of it; None: none knew it."""
    grants: frozenset[str]
    """Channels that it has shown a grant for."""
    handle: int
    """Its name in the engine; nobody's, when it has ended."""

    def __new__(cls, hub: Hub, handle: int, *_: object) -> Self:
        """Make the part of it that is native."""
        return super().__new__(cls, hub.engine, handle, int(time.time()))

    def __init__(self, hub: Hub, handle: int, client_id: str, request: Request) -> None:
        self._hub = hub
        self._data: dict[str, Any] | None = None
        self._user: Any = None
        self.handle = handle
        self.id = client_id
        self.request = request
        self.signature = wire.signature(client_id)
        self.subprotocol = None
        self.user_id = None
        self.identified = None
        self.close_code = None
        self.close_reason = ""
        self.error_budget = None
        self.grants = _NOTHING

    def __repr__(self) -> str:
        return f"<Client {self.id} {self.name}>"

    @property
    def user(self) -> Any:
        """
        Who it is; None: a guest.

        A source of users has said so (`auth.sources`), or code sets it, at any time: any object
        with the attributes `id`, `name` and `email` (str or None), and what else
        `presence.fields` names. It is another user's from then on, and presence says so.
        """
        return self._user

    @user.setter
    def user(self, user: Any) -> None:
        self._user = user
        before, self.user_id = self.user_id, _id_of(user)
        self._hub.reidentified(self, before)

    @property
    def name(self) -> str:
        """The user's name, or "Guest" where there is none."""
        name = getattr(self._user, "name", None)
        return GUEST if name is None or name == "" else str(name)

    @property
    def email(self) -> str | None:
        """The user's e-mail address; None for a guest."""
        return getattr(self._user, "email", None)

    @property
    def path(self) -> str:
        """The path of its handshake, without the query."""
        return self.request.path

    @property
    def remote_address(self) -> str:
        """
        `address:port` of the peer, `[address]:port` for IPv6, `unix:` for a Unix socket.

        Behind one of `trusted_proxies` it is the client that the proxy names, without a port if
        the proxy names none; `request.proxy` is then the proxy's own.
        """
        return self.request.peer

    @property
    def data(self) -> dict[str, Any]:
        """A place for what the application wants to remember of this client."""
        if self._data is None:
            self._data = {}
        return self._data

    @property
    def channels(self) -> list[str]:
        """The channels that it hears, in no order."""
        return self._hub.engine.topics_of(self.handle)

    def send(self, message: object) -> bool:
        """
        Queue `{"type":"private","message":…}`; return whether it is still there.

        NaN goes out as null. Raises UsageError for what JSON can't hold.
        """
        return self._hub.send(self, self._hub.dialect.private(message))

    def subscribe(self, channel: str) -> bool:
        """
        Let it hear `channel`; return whether that is new.

        `max_channels_per_client` bounds what clients ask for, not this.

        Raises:
            UsageError: not 1 to 255 bytes of UTF-8 without control characters.

        """
        if not wire.is_channel(channel):
            raise UsageError(f"no channel can be called {channel!r:.100}")
        return self._hub.engine.subscribe(self.handle, channel)

    def unsubscribe(self, channel: str) -> bool:
        """Let it no longer hear `channel`; return whether it did."""
        return self._hub.engine.unsubscribe(self.handle, channel)

    def disconnect(self, code: int = CloseCode.DISCONNECTED, reason: str = "disconnected") -> bool:
        """
        Start the closing handshake behind what is queued; return whether it was open.

        Nothing is done any more of what it has sent: the message that a `receive` hook is
        looking at goes no further, and those behind it reach no hook.

        Raises:
            UsageError: a code that must not be sent (RFC 6455 §7.4.1).

        """
        closed = self._hub.engine.close(self.handle, code, reason)
        if closed:
            self.is_leaving = True
            if self.mailbox is None:
                self.mailbox = NO_MORE
            else:
                self.mailbox.clear()
        return closed


class ShownClient(Client):
    """A client of a server with `send` hooks, which are shown what it is sent."""

    __slots__ = ()

    def send_frame(self, opcode: int, payload: bytes) -> bool:
        """Queue a message as it is, and show it: see `Client.send_frame`."""
        return self._hub.send(self, payload, opcode)


Receive = Callable[[Client, int, bytes], object]
"""What handles a message of a client, its opcode and its payload; True: it is done."""


def _id_of(user: Any) -> str | None:
    """Return the `id` of a user as text; None if it has none."""
    try:
        return id_of(user)
    except Exception as error:  # the application's: its users' attributes may do anything
        log.limited(logging.ERROR, "user without an id", error=error)
        return None
