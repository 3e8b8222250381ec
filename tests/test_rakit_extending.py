"""`rakit.extend_session`: an open socket counts as a request, where that is asked for."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import time

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from rakit_backends import SQLITE
from rakit_ws import ConfigError, SourceDownError
from rakit_ws.rakit.source import RakitSource
from rakit_ws.user_options import Rakit
from test_rakit import KEY, LOGIN, cookie

NOW = 1_795_000_000
LIFETIME_S = 3600
OURS, OTHER, GONE = "x" * 40, "y" * 40, "z" * 40
DATA = f'a:1:{{s:{len(LOGIN)}:"{LOGIN.decode()}";i:1;}}'


class Handshake:
    """As much of a request as a source looks at."""

    def __init__(self, session_id):
        self._cookie = cookie(session_id)

    def header(self, name):
        return self._cookie if name == "cookie" else None


class Table:
    """The sessions of a database, with two of our own."""

    def __init__(self, url):
        self.url = url
        self._is_file = url.startswith("sqlite")
        kinds = {"mysql:": "mysql+aiomysql:", "postgresql:": "postgresql+asyncpg:"}
        for kind, with_driver in kinds.items():
            url = url.replace(kind, with_driver)
        self._engine = create_engine(url) if self._is_file else create_async_engine(url)

    async def run(self, statement, **values):
        if self._is_file:
            with self._engine.begin() as connection:
                found = connection.execute(text(statement), values)
                return found.all() if found.returns_rows else None
        async with self._engine.begin() as connection:
            found = await connection.execute(text(statement), values)
            return found.all() if found.returns_rows else None

    async def fill(self, last_activity):
        for session_id in (OURS, OTHER):
            await self.run("DELETE FROM sessions WHERE id = :id", id=session_id)
            await self.run(
                "INSERT INTO sessions VALUES (:id, :at, :data)",
                id=session_id,
                at=last_activity,
                data=DATA,
            )

    async def last_activity(self, session_id=OURS):
        statement = "SELECT last_activity, data FROM sessions WHERE id = :id"
        ((at, data),) = await self.run(statement, id=session_id)
        assert data == DATA, "what is in it is not touched"
        return at

    async def aclose(self):
        for session_id in (OURS, OTHER):
            await self.run("DELETE FROM sessions WHERE id = :id", id=session_id)
        if self._is_file:
            self._engine.dispose()
        else:
            await self._engine.dispose()


@pytest.fixture(params=["sqlite", "mariadb", "postgresql"])
def database_url(request, tmp_path):
    """Return the URL of a database of each kind, with the tables of the fixtures."""
    if request.param != "sqlite":
        return request.getfixturevalue(f"{request.param}_url")
    path = tmp_path / "application.sqlite"
    shutil.copy(SQLITE.removeprefix("sqlite:///"), path)
    path.chmod(0o600)
    return f"sqlite:///{path}"


@pytest.fixture
async def table(database_url):
    made = Table(database_url)
    yield made
    await made.aclose()


@contextlib.asynccontextmanager
async def source_of(table, *, extends=True, now=NOW, **more):
    settings = Rakit(
        key=KEY,
        session_driver="database",
        database_url=table.url,
        session_lifetime=LIFETIME_S // 60,
        extend_session=extends,
        **more,
    )
    source = RakitSource(settings, timeout_s=20, clock=lambda: now)
    try:
        yield source
    finally:
        await source.aclose()


async def still_there(source, session_id=OURS):
    user = await source.authenticate(Handshake(OURS))
    return await source.recheck(Handshake(session_id), user)


@pytest.mark.parametrize(
    ("quiet_s", "is_extended"),
    [(0, False), (899, False), (900, True), (901, True), (3600, True)],
)
async def test_session_is_extended_when_a_fourth_of_its_lifetime_is_over(
    table, quiet_s, is_extended
):
    await table.fill(NOW - quiet_s)
    async with source_of(table) as source:
        assert (await still_there(source)).id == "1"
    assert await table.last_activity() == (NOW if is_extended else NOW - quiet_s)
    assert await table.last_activity(OTHER) == NOW - quiet_s


async def test_session_that_has_expired_stays_so(table):
    await table.fill(NOW - LIFETIME_S)
    async with source_of(table) as source:
        user = await source.authenticate(Handshake(OURS))
    async with source_of(table, now=NOW + 1) as source:
        assert await source.recheck(Handshake(OURS), user) is None
    assert await table.last_activity() == NOW - LIFETIME_S


async def test_session_without_a_login_is_not_extended(table):
    await table.fill(NOW - 1800)
    async with source_of(table) as source:
        assert await still_there(source, GONE) is None
    assert await table.last_activity() == NOW - 1800


async def test_nothing_is_written_unless_it_is_asked_for(table):
    await table.fill(NOW - 1800)
    async with source_of(table, extends=False) as source:
        assert (await still_there(source)).id == "1"
    assert await table.last_activity() == NOW - 1800


async def test_a_handshake_extends_nothing(table):
    await table.fill(NOW - 1800)
    async with source_of(table) as source:
        assert await source.authenticate(Handshake(OURS)) is not None
    assert await table.last_activity() == NOW - 1800


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_other_statements_can_write_as_little_as_before(table):
    await table.fill(NOW - 1800)
    async with source_of(table) as source:
        await still_there(source)
        with pytest.raises(SourceDownError, match="readonly"):
            await source._database.rows(text("DELETE FROM users"), [])


async def test_database_that_lets_us_write_nothing_is_a_failure_and_no_end(tmp_path):
    path = tmp_path / "application.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT, email TEXT)")
        connection.execute("INSERT INTO users VALUES (1, 'Ani', NULL)")
        connection.execute("CREATE TABLE real (id TEXT, last_activity INTEGER, data TEXT)")
        connection.execute("INSERT INTO real VALUES (?, ?, ?)", (OURS, NOW - 1800, DATA))
        connection.execute("CREATE VIEW sessions AS SELECT * FROM real")  # no row of it can change
    settings = Rakit(
        key=KEY,
        session_driver="database",
        database_url=f"sqlite:///{path}",
        extend_session=True,
    )
    source = RakitSource(settings, timeout_s=20, clock=lambda: NOW)
    try:
        user = await source.authenticate(Handshake(OURS))
        with pytest.raises(SourceDownError, match="view"):
            await source.recheck(Handshake(OURS), user)
    finally:
        await source.aclose()


@pytest.mark.parametrize("driver", ["file", "cookie", "redis", "memcached"])
def test_sessions_of_other_drivers_can_not_be_extended(driver, tmp_path):
    settings = Rakit(
        key=KEY,
        session_driver=driver,
        session_path=str(tmp_path),
        database_url=SQLITE,
        extend_session=True,
    )
    with pytest.raises(ConfigError, match=r"rakit\.extend_session: only the driver"):
        RakitSource(settings, timeout_s=1, clock=time.time)
