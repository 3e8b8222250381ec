"""The source `rakit`: the user of a Rakit application, from the cookies of a handshake."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from rakit_ws.errors import ConfigError
from rakit_ws.rakit.batch import Batch
from rakit_ws.rakit.cookies import values_of
from rakit_ws.rakit.crypter import Crypter, key_in
from rakit_ws.rakit.database import database
from rakit_ws.rakit.session import (
    integer,
    is_session_id,
    login_in_remember_cookie,
    remember_cookie,
)
from rakit_ws.rakit.stores.cookie import PAYLOAD_COOKIE, record_in
from rakit_ws.rakit.stores.database import DatabaseStore
from rakit_ws.rakit.stores.file import FileStore
from rakit_ws.rakit.stores.memcached import MemcachedStore
from rakit_ws.rakit.stores.redis import RedisStore
from rakit_ws.rakit.stores.store import Sessions
from rakit_ws.rakit.users import Remembered, Users, remembered

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from rakit_ws._core import Request
    from rakit_ws.rakit.database import Database
    from rakit_ws.rakit.session import Record
    from rakit_ws.rakit.stores.store import Store
    from rakit_ws.user import User
    from rakit_ws.user_options import Rakit

LOCAL_REDIS = "redis://127.0.0.1:6379/0"


class RakitSource:
    """
    Knows who is logged in to the application.

    Cookies come first: without one, or with one whose MAC is not right, nothing is looked up
    and nothing waits. `clock` gives Unix seconds.

    Raises:
        ConfigError: a setting is missing or wrong, or a package is not installed.

    """

    name = "rakit"
    reads_cookies = True

    def __init__(
        self, settings: Rakit, *, timeout_s: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._crypter = Crypter(_key(settings))
        self._remember_cookie = remember_cookie(settings.auth_driver)
        self._cookies = frozenset((settings.session_cookie, self._remember_cookie, PAYLOAD_COOKIE))
        # Twice a look-up, one behind the other, within the time of the source.
        self._database = _database(settings, timeout_s / 2)
        self._users = Users(self._database, settings)
        store = _store(settings, self._database, timeout_s / 2)
        self._sessions = (
            None if store is None else Sessions(store, max_loads=settings.database_connections)
        )
        self._extensions = _extensions(settings, store, clock)

    def authenticate(self, request: Request) -> Awaitable[User | None] | None:
        """
        Return who is calling; None: nobody that this application knows.

        A session cookie that is not this application's makes a guest, whatever else is there.

        Raises:
            SourceDownError: (when awaited) the store of sessions or the database can't be asked.

        """
        return self._asked(request, remembers=self._settings.remember, extends=False)

    def _asked(
        self, request: Request, *, remembers: bool, extends: bool
    ) -> Awaitable[User | None] | None:
        header = request.header("cookie")
        cookies = values_of(header, self._cookies) if header else None
        if not cookies:
            return None
        session_id = None
        if self._settings.session_cookie in cookies:
            session_id = self._crypter.decrypt(cookies[self._settings.session_cookie])
            if session_id is None:
                return None
        if session_id is None and self._remember_cookie not in cookies:
            return None
        return self._user(session_id, cookies, remembers=remembers, extends=extends)

    def recheck(self, request: Request, user: User) -> Awaitable[User | None] | None:
        """
        Return who is calling now; None: logged out, or its session is gone or has expired.

        Whom the session has named must be in it still: logging out takes the remember cookie from
        the browser, but not from the handshake that is looked at here. With the driver `cookie`
        the session is the one that came with the handshake: it expires `session_lifetime` after
        that, as newer cookies are not seen here.
        """
        remembers = self._settings.remember and isinstance(user, Remembered)
        return self._asked(request, remembers=remembers, extends=self._extensions is not None)

    async def _user(
        self,
        session_id: bytes | None,
        cookies: dict[str, bytes],
        *,
        remembers: bool,
        extends: bool,
    ) -> User | None:
        record = None
        if session_id is not None and is_session_id(session_id):
            record = await self._record(session_id.decode(), cookies)
        login = None
        if record is not None and record.is_alive(self._clock(), self._settings.session_lifetime):
            login = record.login(self._settings.auth_driver)
        is_remembered = login is None and remembers
        if is_remembered:
            login = self._remembered(cookies)
        number = integer(login)
        user = None if number is None else await self._users.find(number)
        if extends and user is not None and record is not None and not is_remembered:
            await self._extend(session_id, record)
        return remembered(user) if user is not None and is_remembered else user

    async def _extend(self, session_id: bytes | None, record: Record) -> None:
        """Let an open socket count as a request, as soon as a fourth of the lifetime is over."""
        quiet_s = self._clock() - record.last_activity
        is_due = quiet_s >= self._settings.session_lifetime * 60 / 4
        if is_due and session_id is not None and self._extensions is not None:
            await self._extensions.get(session_id.decode())

    async def _record(self, session_id: str, cookies: dict[str, bytes]) -> Record | None:
        if self._sessions is not None:
            return await self._sessions.find(session_id)
        payload = cookies.get(PAYLOAD_COOKIE)
        return None if payload is None else record_in(payload, self._crypter)

    def _remembered(self, cookies: dict[str, bytes]) -> bytes | None:
        outer = cookies.get(self._remember_cookie)
        inner = None if outer is None else self._crypter.decrypt(outer)
        decrypted = None if inner is None else self._crypter.decrypt(inner)
        return None if decrypted is None else login_in_remember_cookie(decrypted)

    @property
    def session_path(self) -> Path | None:
        """The folder of sessions, where they are files."""
        is_file = self._settings.session_driver == "file"
        return _session_path(self._settings) if is_file else None

    async def look_up_session(self, session_id: str) -> Record | None:
        """
        Return a session of the store; None if there is none, or the driver has no store.

        Raises:
            SourceDownError: the store can't be asked.

        """
        return None if self._sessions is None else await self._sessions.find(session_id)

    async def look_up_columns(self) -> Sequence[str]:
        """
        Return the names of the columns that users have.

        Raises:
            SourceDownError: the database can't be asked, or has no such table.

        """
        return await self._users.columns()

    async def aclose(self) -> None:
        """Let go of connections."""
        if self._extensions is not None:
            await self._extensions.aclose()
        if self._sessions is not None:
            await self._sessions.aclose()
        await self._users.aclose()
        await self._database.aclose()


def _key(settings: Rakit) -> str:
    if settings.key:
        return settings.key
    if settings.key_file:
        return key_in(Path(settings.key_file))
    if settings.path:
        return key_in(Path(settings.path, "key.php"))
    raise ConfigError("rakit.key: missing; set rakit.path, rakit.key_file or rakit.key")


def _database(settings: Rakit, timeout_s: float) -> Database:
    if not settings.database_url:
        raise ConfigError("rakit.database_url: missing; users are looked up there")
    return database(
        settings.database_url, connections=settings.database_connections, timeout_s=timeout_s
    )


def _store(settings: Rakit, users_database: Database, timeout_s: float) -> Store | None:
    """Make the store of the session driver; None for `cookie`, which needs none."""
    driver, connections = settings.session_driver, settings.database_connections
    if driver == "file":
        return FileStore(_session_path(settings), threads=connections)
    if driver == "database":
        return DatabaseStore(users_database, settings.database_prefix + settings.session_table)
    if driver == "redis":
        url = settings.redis_url or LOCAL_REDIS
        return RedisStore(url, connections=connections, timeout_s=timeout_s)
    if driver == "memcached":
        return MemcachedStore(
            settings.memcached_servers,
            cache_key=settings.cache_key,
            connections=connections,
            timeout_s=timeout_s,
        )
    if driver == "apc":
        raise ConfigError(
            'rakit.session_driver: "apc" keeps sessions in the memory of PHP, which no other '
            'program can read; use "file", "database", "redis" or "memcached" in the application'
        )
    return None


def _extensions(
    settings: Rakit, store: Store | None, clock: Callable[[], float]
) -> Batch[str, bool] | None:
    """Make what extends sessions, many at a time; None: nobody has asked for that."""
    if not settings.extend_session:
        return None
    if not isinstance(store, DatabaseStore):
        raise ConfigError(
            'rakit.extend_session: only the driver "database" has the time of the last request in a '
            "column of its own; elsewhere what a request writes at that moment would be lost"
        )

    async def extend(session_ids: Sequence[str]) -> dict[str, bool | Exception]:
        await store.extend(session_ids, int(clock()))
        return dict.fromkeys(session_ids, True)

    return Batch(extend, max_loads=1)


def _session_path(settings: Rakit) -> Path:
    if settings.session_path:
        return Path(settings.session_path)
    if settings.path:
        return Path(settings.path, "storage", "sessions")
    raise ConfigError("rakit.session_path: missing; set it, or rakit.path")
