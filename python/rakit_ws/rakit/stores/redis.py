"""The driver `redis`: a key for each session, the id without a prefix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rakit_ws.errors import ConfigError, SourceDownError
from rakit_ws.rakit.session import Record, record_of
from rakit_ws.rakit.stores.store import readable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class RedisStore:
    """
    Sessions in Redis or Valkey.

    Raises:
        ConfigError: a URL that can't be understood, or redis-py is not installed.

    """

    is_immediate = False

    def __init__(self, url: str, *, connections: int, timeout_s: float) -> None:
        try:
            from redis.asyncio import Redis
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff
        except ImportError:
            raise ConfigError(
                'rakit.session_driver: "redis" needs redis-py: pip install "rakit-ws[redis]"'
            ) from None
        # Its own time limits end a connection that does not answer: an answer that comes late
        # is never taken for that to another question.
        try:
            self._redis: Any = Redis.from_url(
                url,
                max_connections=connections,
                socket_timeout=timeout_s / 2,
                socket_connect_timeout=timeout_s / 2,
                retry=Retry(NoBackoff(), 1),
                decode_responses=False,
            )
        except ValueError as fault:
            raise ConfigError(f"rakit.redis_url: the value is wrong: {fault}") from None

    async def load(self, session_ids: Sequence[str]) -> Mapping[str, Record | Exception]:
        """Look up sessions (see Store)."""
        from redis.exceptions import RedisError

        try:
            values: list[bytes | None] = await self._redis.mget(session_ids)
        except (RedisError, OSError) as error:
            raise SourceDownError(f"redis: {type(error).__name__}: {error}") from error
        found: dict[str, Record | Exception] = {}
        for session_id, value in zip(session_ids, values, strict=True):
            record = None if value is None else readable(lambda it=value: record_of(it))  # type: ignore[misc]
            if record is not None:
                found[session_id] = record
        return found

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose()
