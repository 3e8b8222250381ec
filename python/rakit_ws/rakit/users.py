"""The application's table of users."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rakit_ws.rakit.batch import Batch
from rakit_ws.user import User

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Executable

    from rakit_ws.rakit.database import Database
    from rakit_ws.user_options import Rakit

MAX_CACHED = 10_000
"""Rows kept; beyond it the one that was looked up first goes."""

# The one column that nothing here has any use for, and that must not leak.
_NEVER_KEPT = frozenset({"password", "remember_token"})


class Remembered(User, frozen=True):
    """A user whom the remember cookie has named, not a session."""


def remembered(user: User) -> Remembered:
    """Make of a row a user who is remembered."""
    return Remembered(user.id, user.name, user.email, user.columns)


class Users:
    """Users by their number, each row kept for `user_cache` seconds."""

    def __init__(
        self,
        database: Database,
        settings: Rakit,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock
        self._statement = _statement(settings)
        self._batch: Batch[int, User] = Batch(self._load, max_loads=settings.database_connections)
        self._cached: dict[int, tuple[float, User]] = {}

    async def find(self, number: int) -> User | None:
        """
        Return the user with this number; None if there is no such row.

        Raises:
            SourceDownError: the database can't be asked.

        """
        kept = self._cached.get(number)
        if kept is not None and self._clock() < kept[0]:
            return kept[1]
        user = await self._batch.get(number)
        if user is None:
            self._cached.pop(number, None)
        elif self._settings.user_cache:
            self._keep(number, user)
        return user

    def _keep(self, number: int, user: User) -> None:
        # Behind the others, so that the first is the oldest.
        self._cached.pop(number, None)
        self._cached[number] = (self._clock() + self._settings.user_cache, user)
        if len(self._cached) > MAX_CACHED:
            del self._cached[next(iter(self._cached))]

    async def _load(self, numbers: Sequence[int]) -> Mapping[int, User | Exception]:
        names, rows = await self._database.rows(self._statement, numbers)
        return {int(row[-1]): self._user(names, row) for row in rows}

    def _user(self, names: Sequence[str], row: Sequence[Any]) -> User:
        settings = self._settings
        columns: dict[str, Any] = dict(zip(names[:-1], row[:-1], strict=True))
        return User(
            str(row[-1]),
            _text(columns.get(settings.name_column)),
            _text(columns.get(settings.email_column)),
            {name: value for name, value in columns.items() if name not in _NEVER_KEPT},
        )

    async def columns(self) -> Sequence[str]:
        """
        Return the names of the table's columns, whether or not it has rows.

        Raises:
            SourceDownError: the database can't be asked, or has no such table.

        """
        names, _ = await self._database.rows(self._statement, (0,))
        return names[:-1]

    async def aclose(self) -> None:
        """Let go of what is under way; the database is not closed."""
        await self._batch.aclose()


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _statement(settings: Rakit) -> Executable:
    from sqlalchemy import BigInteger, bindparam, column, literal_column, select, table

    number = column(settings.id_column, BigInteger)
    users = table(settings.database_prefix + settings.users_table, number)
    return (
        # MySQL wants the star to be first.
        select(literal_column("*"), number.label("rakit_ws_number"))
        .select_from(users)
        .where(number.in_(bindparam("ids", expanding=True, type_=BigInteger)))
    )
