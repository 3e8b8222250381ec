"""The driver `database`: a row for each session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rakit_ws.rakit.session import Record, record_of_row
from rakit_ws.rakit.stores.store import readable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import Executable

    from rakit_ws.rakit.database import Database


class DatabaseStore:
    """Sessions in a table with the columns `id`, `last_activity` and `data`."""

    is_immediate = False

    def __init__(self, database: Database, table: str) -> None:
        self._database = database
        self._statement = _statement(table, is_sqlite=database.dialect == "sqlite")
        self._extension = _extension(table)

    async def load(self, session_ids: Sequence[str]) -> Mapping[str, Record | Exception]:
        """Look up sessions (see Store)."""
        rows = await self._database.rows(self._statement, session_ids)
        found: dict[str, Record | Exception] = {}
        for session_id, last_activity, data in rows.values:
            serialized = _bytes(data)
            record = readable(lambda at=last_activity, it=serialized: record_of_row(at, it))  # type: ignore[misc]
            if record is not None:
                found[session_id] = record
        return found

    async def extend(self, session_ids: Sequence[str], now: int) -> None:
        """
        Let these sessions be used now, as by a request. What is in them is not touched.

        Raises:
            SourceDownError: the database can't be asked, or does not let us.

        """
        await self._database.write(self._extension, {"ids": list(session_ids), "now": now})

    async def aclose(self) -> None:
        """Do nothing: the database is not this store's own."""


def _bytes(data: object) -> bytes:
    """Return what PHP wrote. A text is as PHP's connection has it, which is UTF-8 too."""
    if isinstance(data, str):
        return data.encode("utf-8", "surrogatepass")
    return bytes(data) if isinstance(data, (bytes, bytearray, memoryview)) else b""


def _statement(name: str, *, is_sqlite: bool) -> Executable:
    from sqlalchemy import ColumnClause, LargeBinary, String, bindparam, cast, column, select, table

    session_id = column("id", String)
    data: ColumnClause[Any] = column("data")
    # SQLite holds NUL and what is not UTF-8 in a text, but gives only a blob as it is.
    shown = cast(data, LargeBinary) if is_sqlite else data
    sessions = table(name, session_id, column("last_activity"), data)
    return select(session_id, sessions.c.last_activity, shown).where(
        session_id.in_(bindparam("ids", expanding=True))
    )


def _extension(name: str) -> Executable:
    from sqlalchemy import BigInteger, String, bindparam, column, table, update

    sessions = table(name, column("id", String), column("last_activity", BigInteger))
    now = bindparam("now", type_=BigInteger)
    return (
        update(sessions)
        .values(last_activity=now)
        .where(sessions.c.id.in_(bindparam("ids", expanding=True)), sessions.c.last_activity < now)
    )
