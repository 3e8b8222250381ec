"""The application's database, through SQLAlchemy."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar
from urllib.parse import quote

from rakit_ws.errors import ConfigError, SourceDownError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from sqlalchemy import Executable
    from sqlalchemy.engine import URL

T = TypeVar("T")

# By the name of a dialect: the asyncio driver that is taken where the URL names none, and the
# extra that installs it.
_DRIVERS = {
    "mysql": ("aiomysql", "mysql"),
    "mariadb": ("aiomysql", "mysql"),
    "postgresql": ("asyncpg", "postgresql"),
}


class Rows(NamedTuple):
    """What a statement has found."""

    columns: Sequence[str]
    values: Sequence[Sequence[Any]]


class Database(Protocol):
    """
    Connections to one database, made when they are needed. What is not `write` only reads.

    Each look-up ends in time, whatever the database does.
    """

    dialect: str

    async def rows(self, statement: Executable, ids: Sequence[Any]) -> Rows:
        """
        Run a statement with the list parameter `ids`; return its rows.

        Raises:
            SourceDownError: the database can't be reached, took too long or refused.

        """

    async def write(self, statement: Executable, parameters: Mapping[str, Any]) -> None:
        """
        Run a statement that changes rows, as a transaction of its own.

        Raises:
            SourceDownError: the database can't be reached, took too long or refused.

        """

    async def aclose(self) -> None:
        """Close the connections."""


def database(text: str, *, connections: int, timeout_s: float) -> Database:
    """
    Return the database at a URL of SQLAlchemy's.

    Raises:
        ConfigError: a URL that can't be understood, or its driver is not installed.

    """
    try:
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import SQLAlchemyError
    except ImportError:
        raise ConfigError(
            "rakit.database_url: needs SQLAlchemy: pip install 'rakit-ws[rakit]'"
        ) from None
    extra = ""
    try:
        url = make_url(text)
        extra = _DRIVERS.get(url.get_backend_name(), ("", ""))[1]
        kind = _File if url.get_backend_name() == "sqlite" else _Server
        return kind(url, connections, timeout_s)
    except ImportError as fault:
        raise ConfigError(
            f"rakit.database_url: {fault.name or 'the driver'} is missing: "
            f"pip install 'rakit-ws[{extra}]'"
        ) from None
    except (SQLAlchemyError, ValueError):
        raise ConfigError(
            "rakit.database_url: the value is wrong; allowed: sqlite:///FILE, "
            "mysql://USER:PASSWORD@HOST/NAME or postgresql://USER:PASSWORD@HOST/NAME"
        ) from None


class _Server:
    """MySQL, MariaDB or PostgreSQL, through an asyncio driver."""

    def __init__(self, url: URL, connections: int, timeout_s: float) -> None:
        from sqlalchemy.ext.asyncio import create_async_engine

        self._timeout_s = timeout_s
        self._engine = create_async_engine(
            _with_driver(url),
            pool_size=connections,
            max_overflow=0,
            pool_timeout=timeout_s,
            # A server or a proxy in between ends idle connections: better found out beforehand.
            pool_pre_ping=True,
            isolation_level="AUTOCOMMIT",
            connect_args=_connect_arguments(url, timeout_s),
        )
        self.dialect = self._engine.dialect.name

    async def rows(self, statement: Executable, ids: Sequence[Any]) -> Rows:
        """Run a statement (see Database)."""
        return await self._in_time(self._rows(statement, ids))

    async def write(self, statement: Executable, parameters: Mapping[str, Any]) -> None:
        """Run a statement that changes rows (see Database)."""
        await self._in_time(self._write(statement, parameters))

    async def _write(self, statement: Executable, parameters: Mapping[str, Any]) -> None:
        async with self._engine.begin() as connection:
            await connection.execute(statement, parameters)

    async def _in_time(self, call: Coroutine[Any, Any, T]) -> T:
        try:
            return await asyncio.wait_for(call, self._timeout_s)
        except asyncio.TimeoutError:
            raise SourceDownError(f"the database took over {self._timeout_s:g} s") from None
        # Drivers raise what they like while they connect. All of it says the same: no answer.
        except Exception as error:
            raise SourceDownError(f"the database: {_one_line(error)}") from error

    async def _rows(self, statement: Executable, ids: Sequence[Any]) -> Rows:
        async with self._engine.connect() as connection:
            result = await connection.execute(statement, {"ids": ids})
            return Rows(list(result.keys()), result.all())

    async def aclose(self) -> None:
        """Close the connections."""
        await self._engine.dispose()


class _File:
    """
    SQLite, in threads: a statement is one way to a thread and back, and a fourth of the cost.

    Through SQLAlchemy's asyncio engine each of its steps is one, ten in all (`benches/logins.py`).
    A statement is compiled once for each number of ids, and then handed to the driver.
    """

    dialect = "sqlite"

    def __init__(self, url: URL, connections: int, timeout_s: float) -> None:
        from sqlalchemy import create_engine, event

        self._engine = create_engine(
            _read_only(url),
            pool_size=connections,
            max_overflow=0,
            pool_timeout=timeout_s,
            # A database that another program has locked is waited for, but no longer.
            connect_args={"timeout": timeout_s, "check_same_thread": False},
        )
        event.listen(self._engine, "connect", _prepare_sqlite)
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="rakit_ws-sqlite")
        self._compiled: dict[tuple[Executable, int], str] = {}

    async def rows(self, statement: Executable, ids: Sequence[Any]) -> Rows:
        """Run a statement (see Database)."""
        return await self._in_a_thread(self._rows, statement, ids)

    async def write(self, statement: Executable, parameters: Mapping[str, Any]) -> None:
        """Run a statement that changes rows (see Database)."""
        await self._in_a_thread(self._write, statement, parameters)

    async def _in_a_thread(self, call: Callable[..., T], *args: object) -> T:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, call, *args)
        except Exception as error:  # SQLite's, SQLAlchemy's, and those of the file system
            raise SourceDownError(f"the database: {_one_line(error)}") from error

    def _rows(self, statement: Executable, ids: Sequence[Any]) -> Rows:
        with contextlib.closing(self._engine.raw_connection()) as connection:
            cursor = connection.cursor()
            cursor.execute(self._text_of(statement, len(ids)), tuple(ids))
            return Rows([column[0] for column in cursor.description], cursor.fetchall())

    def _write(self, statement: Executable, parameters: Mapping[str, Any]) -> None:
        with self._engine.begin() as connection:
            connection.exec_driver_sql("PRAGMA query_only = OFF")
            try:
                connection.execute(statement, parameters)
            finally:
                connection.exec_driver_sql("PRAGMA query_only = ON")

    def _text_of(self, statement: Executable, count: int) -> str:
        text = self._compiled.get((statement, count))
        if text is None:
            sample: Any = statement
            text = str(
                sample.params(ids=[0] * count).compile(
                    dialect=self._engine.dialect, compile_kwargs={"render_postcompile": True}
                )
            )
            self._compiled[statement, count] = text
        return text

    async def aclose(self) -> None:
        """Close the connections, but do not wait for a file that hangs."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._engine.dispose()


def _with_driver(url: URL) -> URL:
    backend = url.get_backend_name()
    if "+" not in url.drivername and backend in _DRIVERS:
        url = url.set(drivername=f"{backend}+{_DRIVERS[backend][0]}")
    if backend in ("mysql", "mariadb") and "charset" not in url.query:
        return url.update_query_dict({"charset": "utf8mb4"})
    return url


def _read_only(url: URL) -> URL:
    """Return a URL by which a file that is not there is never made."""
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        return url.set(drivername="sqlite")
    return url.set(drivername="sqlite", database=f"file:{quote(url.database)}").update_query_dict(
        {"mode": "rw", "uri": "true"}
    )


def _connect_arguments(url: URL, timeout_s: float) -> dict[str, Any]:
    if url.get_backend_name() == "postgresql":
        return {"timeout": timeout_s, "command_timeout": timeout_s}
    return {"connect_timeout": timeout_s}


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # One name that is not UTF-8 must not hide the rows that are asked for together with it.
    connection.text_factory = lambda text: text.decode("utf-8", "replace")
    # Read-write, so that SQLite can put right what a crash of the application has left; but
    # no statement of ours may write, except in `write`.
    connection.execute("PRAGMA query_only = ON")


def _one_line(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    first = str(cause).partition("\n")[0]
    return f"{type(cause).__name__}: {first}"
