"""The source `http`: who a URL of the application says it is."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import msgspec

from rakit_ws.auth.asking import ask, new_client
from rakit_ws.auth.claims import seconds_of, user_of
from rakit_ws.errors import ConfigError, SourceDownError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from rakit_ws._core import Request
    from rakit_ws.auth.asking import Answer
    from rakit_ws.source_options import Http
    from rakit_ws.user import User

    Headers = Sequence[tuple[bytes, bytes]]

MAX_ANSWER_BYTES = 64 * 1024
MAX_CACHED = 10_000
"""Users kept; beyond it the one that was asked for first goes."""
NOBODY = frozenset({204, 401, 403})


class HttpSource:
    """
    Passes on the cookies of a handshake, or other headers, and takes the user of the answer.

    Equal questions that come together are one, at most `max_requests` are under way, and others
    wait their turn. A user is kept for `cache` seconds; that somebody is nobody is not, as a login
    changes it. `clock` gives seconds, `wall_clock` Unix seconds.

    Raises:
        ConfigError: there is no URL.

    """

    name = "http"
    reads_cookies = True

    def __init__(
        self,
        settings: Http,
        *,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        if not settings.url:
            raise ConfigError("http.url: missing; users are asked for there")
        self._settings = settings
        self._names = tuple(name.lower() for name in settings.headers)
        self._timeout_s = timeout_s
        self._clock = clock
        self._wall_clock = wall_clock
        # Not the environment's proxies: what is passed on are the secrets of users.
        self._client = new_client(timeout_s, connections=settings.max_requests, uses_proxies=False)
        self._turns = asyncio.Semaphore(settings.max_requests)
        # Those who are there already leave turns to newcomers.
        self._rechecks = asyncio.Semaphore(max(1, settings.max_requests // 2))
        self._hash_key = os.urandom(32)
        self._cached: dict[bytes, tuple[float, User]] = {}
        self._questions: dict[bytes, _Question] = {}

    def authenticate(self, request: Request) -> Awaitable[User | None] | User | None:
        """
        Return who is calling (see Source); nobody is asked about a handshake without the headers.

        Raises:
            SourceDownError: (when awaited) the application does not answer, or not as it should.

        """
        headers = self._passed_on(request)
        if not headers:
            return None
        digest = self._digest(headers)
        kept = self._cached.get(digest)
        if kept is not None and self._clock() < kept[0]:
            return kept[1]
        return self._user(digest, headers)

    def recheck(self, request: Request, _user: User) -> Awaitable[User | None] | None:
        """Return what the application says now, whatever is kept."""
        headers = self._passed_on(request)
        return self._again(headers) if headers else None

    async def _again(self, headers: Headers) -> User | None:
        async with self._rechecks:
            return await self._user(self._digest(headers), headers)

    def _passed_on(self, request: Request) -> Headers:
        found = ((name, request.header(name)) for name in self._names)
        return [
            (name.encode(), value.encode("latin-1")) for name, value in found if value is not None
        ]

    def _digest(self, headers: Headers) -> bytes:
        """Name a question without keeping what it has: the key is forgotten with the process."""
        parts = msgspec.msgpack.encode(headers)  # with lengths: no two questions look the same
        return hashlib.blake2b(parts, key=self._hash_key, digest_size=32).digest()

    async def _user(self, digest: bytes, headers: Headers) -> User | None:
        question = self._questions.get(digest)
        if question is None:
            task = asyncio.get_running_loop().create_task(self._ask(digest, headers))
            question = self._questions[digest] = _Question(task)
        question.waiting += 1
        try:
            return await asyncio.shield(question.task)
        finally:
            question.waiting -= 1
            if not question.waiting:
                self._end(digest, question)

    def _end(self, digest: bytes, question: _Question) -> None:
        """End a question for whose answer nobody waits: who has the same asks anew."""
        if self._questions.get(digest) is question:
            del self._questions[digest]
        question.task.cancel()

    async def _ask(self, digest: bytes, headers: Headers) -> User | None:
        async with self._turns:
            answer = await ask(
                self._client,
                self._settings.url,
                [*headers, *self._own_headers()],
                timeout_s=self._timeout_s,
                max_bytes=MAX_ANSWER_BYTES,
            )
        user = self._user_in(answer)
        if user is None:
            self._cached.pop(digest, None)
        elif self._settings.cache:
            self._keep(digest, user)
        return user

    def _own_headers(self) -> Headers:
        own = [
            (b"Accept", b"application/json"),
            # Frameworks answer 401 to it where they would send others to the login.
            (b"X-Requested-With", b"XMLHttpRequest"),
            (b"User-Agent", f"rakit_ws/{version('rakit-ws')}".encode()),
        ]
        host = self._settings.host
        return [*own, (b"Host", host.encode())] if host else own

    def _user_in(self, answer: Answer) -> User | None:
        if answer.status in NOBODY:
            return None
        url = self._settings.url
        if answer.status != 200:
            raise SourceDownError(
                f"{url} answered {answer.status}: allowed are 200 with a user, 401, 403 and 204"
            )
        try:
            said = msgspec.json.decode(answer.body, type=dict[str, Any] | None)
        except (msgspec.MsgspecError, RecursionError, UnicodeError):
            raise SourceDownError(f"{url} answered no JSON object") from None
        if said is None:
            return None
        return self._user_of(said)

    def _user_of(self, said: dict[str, Any]) -> User | None:
        expires_at = seconds_of(said.get("expires_at"))
        user = user_of(
            said,
            id_key="id",
            name_key="name",
            email_key="email",
            channels_key="channels",
            expires_at=expires_at,
            left_out=("expires_at",),
        )
        if user is None:
            raise SourceDownError(
                f"{self._settings.url} answered no `id` that is a string or an integer"
            )
        return None if expires_at is not None and expires_at <= self._wall_clock() else user

    def _keep(self, digest: bytes, user: User) -> None:
        # Behind the others, so that the first is the oldest.
        self._cached.pop(digest, None)
        self._cached[digest] = (self._clock() + self._settings.cache, user)
        if len(self._cached) > MAX_CACHED:
            del self._cached[next(iter(self._cached))]

    async def aclose(self) -> None:
        """End what is under way, and close the connections."""
        for question in list(self._questions.values()):
            question.task.cancel()
        await self._client.aclose()


@dataclass
class _Question:
    """A question that is under way, and how many wait for its answer."""

    task: asyncio.Task[User | None]
    waiting: int = 0
