"""All sources of a server, asked one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from typing import TYPE_CHECKING, Any, TypeGuard

from rakit_ws.auth.source import TokenSource
from rakit_ws.errors import ConfigError, Refused, SourceDownError
from rakit_ws.hub.events import FAULTS, reraise_if_cancelled
from rakit_ws.log import log
from rakit_ws.user import Identified, User, id_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from rakit_ws._core import Request
    from rakit_ws.auth.source import Source
    from rakit_ws.config import Config

    Verdict = Identified | Refused | None
    """A user; who is refused; None for a guest."""

# Of HTTP authentication, whose credentials browsers remember.
_BROWSERS_SCHEMES = frozenset({"basic", "digest", "negotiate", "ntlm"})

COUNTERS = (
    "users_identified",
    "user_source_failures",
    "cross_site_refusals",
    "user_rechecks",
    "user_rechecks_failed",
    "sessions_ended",
    "tokens_refused",
)

CROSS_SITE = Refused(403, "this origin may not use the session")
NOBODY = Refused(401, "authentication is required")
DOWN = Refused(503, "users cannot be looked up now")


class Chain:
    """
    Asks each source in its order, until one knows the user.

    A source that fails, or takes longer than its time, is passed over; if none of the others
    knows the user, the handshake is refused or the user a guest, as `auth.on_failure` says.
    `may_use_cookies` tells whether the origin of a request may act for the user whose cookies
    it carries (protocol §1). `counts` are those of `new_counts()`, which outlive a chain.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        config: Config,
        *,
        may_use_cookies: Callable[[Request], bool],
        counts: dict[str, int],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._sources = sources
        self._by_name = {source.name: source for source in sources}
        self._token_source = next(
            (source for source in sources if isinstance(source, TokenSource)), None
        )
        self._clock = clock
        self._timeout_s = config.source_timeout(len(sources))
        self._required = config.auth.required
        self._refuses_on_failure = config.auth.on_failure == "refuse"
        self._may_use_cookies = may_use_cookies
        self._counts = counts

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to ask or to demand."""
        return bool(self._sources) or self._required

    def identify(self, request: Request) -> Awaitable[Verdict] | Verdict:
        """Return the user of a handshake, None for a guest, or the refusal; raises nothing."""
        is_down = False
        for index, source in enumerate(self._sources):
            try:
                found = source.authenticate(request)
            except Refused as refused:
                return refused
            except FAULTS as error:
                self._report(source, error)
                is_down = True
                continue
            if is_awaitable(found):
                return self._identify_later(request, found, index, is_down=is_down)
            if found is not None and not self._has_expired(found):
                return self._let_in(request, source, found)
        return self._nobody(is_down=is_down)

    async def _identify_later(
        self, request: Request, pending: Awaitable[Any], first: int, *, is_down: bool
    ) -> Verdict:
        answer: Any = pending
        for index in range(first, len(self._sources)):
            source = self._sources[index]
            try:
                found = answer if index == first else source.authenticate(request)
                if is_awaitable(found):
                    found = await _within(self._timeout_s, found)
            except Refused as refused:
                return refused
            except FAULTS as error:
                reraise_if_cancelled(error)
                self._report(source, error)
                is_down = True
                continue
            if found is not None and not self._has_expired(found):
                return self._let_in(request, source, found)
        return self._nobody(is_down=is_down)

    def _let_in(self, request: Request, source: Source, user: Any) -> Verdict:
        is_browsers = source.reads_cookies and _has_browsers_credentials(request)
        if is_browsers and not self._may_use_cookies(request):
            self._counts["cross_site_refusals"] += 1
            return CROSS_SITE
        self._counts["users_identified"] += 1
        return Identified(user, source.name)

    def recheck(self, request: Request, known: Identified) -> Awaitable[Any | None] | Any | None:
        """
        Return who a client is now; None if its session has ended.

        Only the source that named it is asked. Where that fails, or is no source any more,
        nothing is known of an end: the user is who it was. Raises nothing.
        """
        if self._has_expired(known.user):
            return None
        source = self._by_name.get(known.source)
        if source is None:
            return known.user
        try:
            found = source.recheck(request, known.user)
            if is_awaitable(found):
                return self._recheck_later(source, found, known)
            return self._still(found, known)
        except Refused:
            return None
        except FAULTS as error:
            return self._as_before(source, error, known)

    async def _recheck_later(
        self, source: Source, pending: Awaitable[Any], known: Identified
    ) -> Any:
        try:
            return self._still(await _within(self._timeout_s, pending), known)
        except Refused:
            return None
        except FAULTS as error:
            reraise_if_cancelled(error)
            return self._as_before(source, error, known)

    def _still(self, found: Any, known: Identified) -> Any | None:
        is_same = found is not None and id_of(found) == id_of(known.user)
        return found if is_same and not self._has_expired(found) else None

    def _has_expired(self, user: Any) -> bool:
        # Of other objects it may be anything: the end of a subscription, for instance.
        if not isinstance(user, User) or user.expires_at is None:
            return False
        return self._clock() >= user.expires_at

    def _as_before(self, source: Source, error: BaseException, known: Identified) -> Any:
        self._counts["user_rechecks_failed"] += 1
        self._report(source, error)
        return known.user

    def identify_token(self, token: str) -> Awaitable[Identified | None] | None:
        """
        Return whom a token names that came behind the handshake; None: it is not valid.

        Only None comes at once: no source takes tokens.

        Raises:
            SourceDownError: (when awaited) the source of tokens can't tell now.

        """
        source = self._token_source
        return None if source is None else self._identify_token(source, token)

    async def _identify_token(self, source: TokenSource, token: str) -> Identified | None:
        try:
            found = source.identify(token)
            if is_awaitable(found):
                found = await _within(self._timeout_s, found)
        except FAULTS as error:
            reraise_if_cancelled(error)
            self._report(source, error)
            raise SourceDownError("users can't be looked up now") from error
        if found is None or self._has_expired(found):
            return None
        self._counts["users_identified"] += 1
        return Identified(found, source.name)

    def _nobody(self, *, is_down: bool) -> Verdict:
        if is_down and (self._refuses_on_failure or self._required):
            return DOWN
        return NOBODY if self._required else None

    def _report(self, source: Source, error: BaseException) -> None:
        self._counts["user_source_failures"] += 1
        # The source's name is its key: a constant. What it raises by itself needs no traceback.
        if isinstance(error, SourceDownError):
            reason = str(error)
        elif isinstance(error, asyncio.TimeoutError):
            reason = f"no answer within {self._timeout_s:g} s"
        else:
            log.limited(logging.ERROR, "user source failed", source=source.name, error=error)
            return
        log.limited(logging.WARNING, f"users of {source.name} not known", reason=reason)

    async def aclose(self) -> None:
        """Let go of the connections of all sources."""
        for source in self._sources:
            await _close(source)


async def _within(timeout_s: float, answer: Awaitable[Any]) -> Any:
    if sys.version_info < (3, 11):
        return await asyncio.wait_for(answer, timeout_s)
    async with asyncio.timeout(timeout_s):  # no task of its own
        return await answer


async def _close(source: Source) -> None:
    try:
        await source.aclose()
    except FAULTS as error:
        reraise_if_cancelled(error)
        log.limited(logging.WARNING, f"users of {source.name} not closed", reason=str(error))


def new_counts() -> dict[str, int]:
    """Make the totals of a server (`docs/counters.md`)."""
    return dict.fromkeys(COUNTERS, 0)


def sources_of(
    config: Config, function: Source | None, counts: dict[str, int] | None = None
) -> list[Source]:
    """
    Make the sources that the configuration names; the application's function is the last.

    `counts` are those of the chain that they are for.

    Raises:
        ConfigError: a source that is named is not there, or can't be with these settings.

    """
    names = list(dict.fromkeys(config.auth.sources))
    if function is not None and function.name not in names:
        names.append(function.name)
    return list(_made(names, config, function, counts or new_counts()))


def _made(
    names: Sequence[str], config: Config, function: Source | None, counts: dict[str, int]
) -> Iterator[Source]:
    timeout_s = config.source_timeout(len(names))
    for name in names:
        if name == "rakit":
            # Here, as its libraries are extras, and take their time to load.
            from rakit_ws.rakit.source import RakitSource

            yield RakitSource(config.rakit, timeout_s=timeout_s)
        elif name == "jwt":
            with _extra("jwt"):
                from rakit_ws.auth.jwt import JwtSource

            yield JwtSource(config.jwt, timeout_s=timeout_s, counts=counts)
        elif name == "http":
            with _extra("http"):
                from rakit_ws.auth.http import HttpSource

            yield HttpSource(config.http, timeout_s=timeout_s)
        elif function is None:
            raise ConfigError(
                'auth.sources: "function" is named, but no function is: @server.authenticate'
            )
        else:
            yield function


@contextlib.contextmanager
def _extra(name: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as fault:
        raise ConfigError(
            f'auth.sources: "{name}" needs the package {fault.name}: '
            f"pip install 'rakit-ws[{name}]'"
        ) from None


def _has_browsers_credentials(request: Request) -> bool:
    """Tell whether a request has what browsers send along by themselves, whatever page asks."""
    if request.header("cookie") is not None:
        return True
    scheme = (request.header("authorization") or "").partition(" ")[0].lower()
    return scheme in _BROWSERS_SCHEMES


def is_awaitable(answer: object) -> TypeGuard[Awaitable[Any]]:
    """Tell whether an answer is still to come."""
    return answer is not None and hasattr(answer, "__await__")
