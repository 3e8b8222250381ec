"""What a presence lists: an entry for each client, or for each user."""

from __future__ import annotations

import logging
import time
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol

from rakit_ws import phpjson, wire
from rakit_ws.hub.client import GUEST
from rakit_ws.log import log

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rakit_ws.config import Presence as Settings
    from rakit_ws.hub.client import Client

MAX_CLIENTS_SHOWN: Final = 32
"""Clients listed of one user, the newest: each new one makes the entry anew."""


class Roster(Protocol):
    """The entries of a presence, oldest first."""

    def join(self, client: Client) -> None:
        """Show a client."""

    def leave(self, client: Client) -> bool:
        """Show a client no more; tell whether it was shown."""

    def update(self, client: Client) -> bool:
        """Show a client as who it is now; tell whether that makes a difference."""

    def message(self, most: int) -> bytes:
        """Make a presence of the newest entries, at most so many, oldest first."""

    def of(self, clients: Iterable[Client]) -> list[bytes]:
        """Return the entries that these clients, who are shown, would be by themselves."""

    def __len__(self) -> int: ...


def roster(settings: Settings, compat: str) -> Roster:
    """Make an empty one, as the settings and the option `compat` say."""
    if compat == "php":
        return ForPhp(("name",))
    return ByUser(settings.fields) if settings.group_by == "user" else ByClient(settings.fields)


class ByClient:
    """An entry for each client."""

    def __init__(self, fields: tuple[str, ...]) -> None:
        self._fields = fields
        self._entries: dict[str, bytes] = {}

    def join(self, client: Client) -> None:
        """Show a client (see Roster)."""
        self._entries[client.id] = self._entry_of(client)

    def leave(self, client: Client) -> bool:
        """Show a client no more (see Roster)."""
        return self._entries.pop(client.id, None) is not None

    def update(self, client: Client) -> bool:
        """Show a client as who it is now (see Roster)."""
        before = self._entries.get(client.id)
        if before is None:
            return False  # a `send` hook of its welcome is at work: it is about to join
        self._entries[client.id] = entry = self._entry_of(client)
        return entry != before

    def message(self, most: int) -> bytes:
        """Make a presence (see Roster)."""
        return wire.presence(self._newest(most), len(self._entries))

    def _newest(self, most: int) -> list[bytes]:
        return list(islice(reversed(self._entries.values()), most))[::-1]

    def of(self, clients: Iterable[Client]) -> list[bytes]:
        """Return the entries of these clients (see Roster)."""
        return [self._entries[client.id] for client in clients]

    def __len__(self) -> int:
        return len(self._entries)

    def _entry_of(self, client: Client) -> bytes:
        return _entry(client.id, client, self._fields, client.connected_at)


class ForPhp(ByClient):
    """The entries of the PHP server: by id in an object, each with the time of sending."""

    def message(self, most: int) -> bytes:
        """Make a presence (see Roster)."""
        end = b"%d}" % time.time()
        users = b",".join(entry + end for entry in self._newest(most))
        # Without a key PHP's array is a list.
        return b'{"type":"presence","users":%b}' % (b"{%b}" % users if users else b"[]")

    def _entry_of(self, client: Client) -> bytes:
        """Make an entry up to its time."""
        shown_id = client.id.encode()
        name = phpjson.encode_text(_name_of(client))
        return b'"%b":{"id":"%b","name":%b,"connected_at":' % (shown_id, shown_id, name)


class _Group:
    """The clients of one user, oldest first, and their entry: None is to be made anew."""

    __slots__ = ("clients", "entry", "id", "since")

    def __init__(self, shown_id: str, since: int) -> None:
        self.id = shown_id
        self.since = since
        self.clients: dict[Client, None] = {}
        self.entry: bytes | None = None


class ByUser:
    """
    An entry for each user, with its clients; a guest is a user of one client.

    `connected_at` is since when the user has been here without a break.
    """

    def __init__(self, fields: tuple[str, ...]) -> None:
        self._fields = fields
        self._groups: dict[tuple[str, str], _Group] = {}
        self._key_of: dict[Client, tuple[str, str]] = {}

    def join(self, client: Client) -> None:
        """Show a client (see Roster)."""
        key = _key(client)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(key[1], client.connected_at)
        group.clients[client] = None
        group.entry = None
        self._key_of[client] = key

    def leave(self, client: Client) -> bool:
        """Show a client no more (see Roster)."""
        key = self._key_of.pop(client, None)
        if key is None:
            return False
        group = self._groups[key]
        del group.clients[client]
        group.entry = None
        if not group.clients:
            del self._groups[key]
        return True

    def update(self, client: Client) -> bool:
        """Show a client as who it is now (see Roster)."""
        key = self._key_of.get(client)
        if key is None:
            return False  # as above
        if key != _key(client):
            self.leave(client)
            self.join(client)
            return True
        group = self._groups[key]
        before, group.entry = group.entry, self._entry_of(group, group.clients)
        return group.entry != before

    def message(self, most: int) -> bytes:
        """Make a presence (see Roster)."""
        newest = [self._kept(group) for group in islice(reversed(self._groups.values()), most)]
        return wire.presence(newest[::-1], len(self._groups))

    def of(self, clients: Iterable[Client]) -> list[bytes]:
        """Return the entries of these clients (see Roster)."""
        chosen: dict[tuple[str, str], list[Client]] = {}
        for client in clients:
            chosen.setdefault(self._key_of[client], []).append(client)
        return [self._entry_of(self._groups[key], some) for key, some in chosen.items()]

    def __len__(self) -> int:
        return len(self._groups)

    def _kept(self, group: _Group) -> bytes:
        if group.entry is None:
            group.entry = self._entry_of(group, group.clients)
        return group.entry

    def _entry_of(self, group: _Group, clients: Iterable[Client]) -> bytes:
        """Make an entry; the newest client knows best who the user is."""
        newest = list(clients)[-MAX_CLIENTS_SHOWN:]
        ids = [client.id for client in newest]
        return _entry(group.id, newest[-1], self._fields, group.since, clients=ids)


def _key(client: Client) -> tuple[str, str]:
    """Return what its entry is found by: an id of a user may look like one of a client."""
    return ("guest", client.id) if client.user_id is None else ("user", client.user_id)


def _entry(
    shown_id: str, client: Client, fields: tuple[str, ...], since: int, **more: object
) -> bytes:
    """Encode an entry; a user whom JSON can't hold is shown as a guest."""
    try:
        return wire.presence_entry(shown_id, _shown(client, fields), since, **more)
    except Exception as error:  # the application's: its users' attributes may do anything
        log.limited(logging.ERROR, "user not shown", error=error, id=client.id)
    guest = {field: GUEST if field == "name" else None for field in fields}
    return wire.presence_entry(shown_id, guest, since, **more)


def _name_of(client: Client) -> str:
    try:
        return client.name
    except Exception as error:  # as above
        log.limited(logging.ERROR, "user not shown", error=error, id=client.id)
        return GUEST


def _shown(client: Client, fields: tuple[str, ...]) -> dict[str, Any]:
    """Return what presence tells of a client's user; a guest has only a name."""
    shown = {field: getattr(client.user, field, None) for field in fields}
    if "name" in shown:
        shown["name"] = client.name
    return shown
