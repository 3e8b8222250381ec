"""The driver `memcached`: a value for each session, as PHP's extension writes it."""

from __future__ import annotations

import asyncio
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

from rakit_ws.errors import ConfigError, SourceDownError
from rakit_ws.rakit.php import MalformedError
from rakit_ws.rakit.session import MAX_RECORD_BYTES, Record, record_of
from rakit_ws.rakit.stores import fastlz
from rakit_ws.rakit.stores.store import readable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TYPE_MASK = 0b1111
_COMPRESSED, _ZLIB, _FASTLZ = 1 << 4, 1 << 5, 1 << 6
_LENGTH_BYTES = 4
_PHP_TYPE = 4
# What else the extension can be told to serialize with; nothing but PHP reads these here.
_FOREIGN = {5: "igbinary", 6: "json", 8: "msgpack"}


class Value(NamedTuple):
    """What a server has for a key."""

    content: bytes
    flags: int


class MemcachedStore:
    """
    Sessions in Memcached.

    All servers are asked: which of them has a key depends on how the extension was set up. The
    client is pymemcache in threads: it drops a connection whose answer it has not read, which
    asyncio's clients do not where they are cancelled.

    Raises:
        ConfigError: no servers, one that can't be understood, pymemcache is not installed.

    """

    is_immediate = False

    def __init__(
        self, servers: Sequence[str], *, cache_key: str, connections: int, timeout_s: float
    ) -> None:
        if not servers:
            raise ConfigError("rakit.memcached_servers: there are none")
        # As the framework has it: a dot that is already there is not doubled.
        self._prefix = cache_key.rstrip(".") + "."
        self._clients = [_client(server, connections, timeout_s / 2) for server in servers]
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="rakit_ws-memcached")

    async def load(self, session_ids: Sequence[str]) -> Mapping[str, Record | Exception]:
        """Look up sessions (see Store)."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._read_all, session_ids)

    def _read_all(self, session_ids: Sequence[str]) -> dict[str, Record | Exception]:
        keys = {self._prefix + session_id: session_id for session_id in session_ids}
        found: dict[str, Record | Exception] = {}
        fault: SourceDownError | None = None
        for client in self._clients:
            try:
                values: dict[str, Value] = client.get_many(list(keys))
            except Exception as error:  # of pymemcache, its sockets and its parser
                fault = SourceDownError(f"memcached: {type(error).__name__}: {error}")
                continue
            for key, value in values.items():
                _keep_newest(found, keys[key], _record(value))
        if fault is not None:
            # Who was not found may be on the server that does not answer.
            found = {**dict.fromkeys(session_ids, fault), **found}
        return found

    async def aclose(self) -> None:
        """Close the connections, but do not wait for one that hangs."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for client in self._clients:
            client.close()


def _keep_newest(
    found: dict[str, Record | Exception], session_id: str, record: Record | Exception | None
) -> None:
    """Take in a record, unless another server has a later one: servers may have been added."""
    known = found.get(session_id)
    if record is None:
        return
    if isinstance(known, Record) and (
        not isinstance(record, Record) or record.last_activity <= known.last_activity
    ):
        return
    found[session_id] = record


def _record(value: Value) -> Record | Exception | None:
    kind = value.flags & _TYPE_MASK
    if kind in _FOREIGN:
        return SourceDownError(
            f"memcached: sessions are serialized with {_FOREIGN[kind]}, which only PHP reads; "
            "set memcached.serializer = php there"
        )
    return readable(lambda: _php_record(value, kind))


def _php_record(value: Value, kind: int) -> Record:
    if kind != _PHP_TYPE:
        raise MalformedError(f"a value of Memcached's type {kind}, no array")
    return record_of(_inflated(value))


def _inflated(value: Value) -> bytes:
    """
    Undo the compression; at most MAX_RECORD_BYTES.

    Raises:
        MalformedError: it can't be undone, or gives more or less than it says.

    """
    if not value.flags & _COMPRESSED:
        return value.content
    length = int.from_bytes(value.content[:_LENGTH_BYTES], "little")
    compressed = value.content[_LENGTH_BYTES:]
    if length > MAX_RECORD_BYTES:
        raise MalformedError(f"more than {MAX_RECORD_BYTES} bytes")
    if value.flags & _ZLIB:
        content = _inflated_by_zlib(compressed, length)
    elif value.flags & _FASTLZ:
        content = fastlz.decompress(compressed, max_bytes=length)
    else:
        raise MalformedError("compressed in a way that is neither zlib nor fastlz")
    if len(content) != length:
        raise MalformedError("compressed, and not whole")
    return content


def _inflated_by_zlib(compressed: bytes, length: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(compressed, length + 1)
    except zlib.error as fault:
        raise MalformedError(f"zlib: {fault}") from None


class _Serde:
    """Hands values over with their flags."""

    def serialize(self, _key: str, value: bytes) -> tuple[bytes, int]:
        return value, 0

    def deserialize(self, _key: str, value: bytes, flags: int) -> Value:
        return Value(value, flags)


def _client(server: str, connections: int, timeout_s: float) -> Any:
    try:
        # It has no types.
        from pymemcache.client.base import (  # type: ignore[import-untyped]
            PooledClient,
            normalize_server_spec,
        )
    except ImportError:
        raise ConfigError(
            'rakit.session_driver: "memcached" needs pymemcache: pip install "rakit-ws[memcached]"'
        ) from None
    try:
        address = normalize_server_spec(server)
    except ValueError:
        raise ConfigError(
            f'rakit.memcached_servers: "{server}" is wrong; allowed: HOST, HOST:PORT or unix:PATH'
        ) from None
    return PooledClient(
        address,
        serde=_Serde(),
        connect_timeout=timeout_s,
        timeout=timeout_s,
        no_delay=True,
        max_pool_size=connections,
    )
