"""Who a client is."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from rakit_ws.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

_NO_COLUMNS: Mapping[str, Any] = MappingProxyType({})


class User(msgspec.Struct, frozen=True):
    """
    A user of the web application, as a source of users knows it.

    `columns` is what else is known: `user.role` and `user.columns["role"]` are the same. Clients
    of one user may share it: it does not change.

    `channels` are the channels, or patterns of them (`private-42`, `team-7-*`), for which it needs
    no grant. From `expires_at` (Unix seconds) on it is nobody any more; None: the source alone
    says that.

    Raises:
        UsageError: an id that is no string.

    """

    id: str
    name: str | None = None
    email: str | None = None
    columns: Mapping[str, Any] = _NO_COLUMNS
    channels: tuple[str, ...] = ()
    expires_at: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.id, str):
            raise UsageError(f"a user's id is a string, not {type(self.id).__name__}")

    def __getattr__(self, column: str) -> Any:
        try:
            return self.columns[column]
        except KeyError:
            raise AttributeError(f"this user has no column {column!r:.100}") from None

    def __hash__(self) -> int:
        return hash(self.id)


class Identified(NamedTuple):
    """Who a client is, and who said so: the source of that name is asked again later."""

    user: Any
    source: str


def id_of(user: Any) -> str | None:
    """Return the `id` of any user as text, None if it has none; raises what the user raises."""
    user_id = getattr(user, "id", None)
    return None if user_id is None or user_id == "" else str(user_id)
