"""Public keys that tokens are checked with: from a file, or from a URL that changes them."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt import PyJWK, PyJWTError

from rakit_ws.auth.asking import ask, new_client
from rakit_ws.errors import ConfigError, SourceDownError
from rakit_ws.log import log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from pathlib import Path

    PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

MAX_DOCUMENT_BYTES = 256 * 1024
MAX_KEYS = 100
"""Of a document; further ones are not looked at."""
MAX_TRIED = 4
"""Keys that are tried for a token that names none: each costs a verification."""
MIN_RSA_BITS = 2048
"""RFC 7518 §3.3."""
MIN_REFRESH_S = 10.0
"""So often at most is a URL asked, whatever keys tokens name."""
STALE_FACTOR = 12
"""So many times `jwt.keys_cache` old keys are used while their URL does not answer."""


class Key(NamedTuple):
    """A public key, and the one algorithm that it is good for (RFC 8725 §3.1)."""

    kid: str | None
    algorithm: str
    public: PublicKey


class Keys(Protocol):
    """Where keys come from."""

    def find(self, algorithm: str, kid: str | None) -> Awaitable[list[Key]] | list[Key]:
        """
        Return the keys to try for a token with this header, at once or when awaited.

        Raises:
            SourceDownError: they can't be had now.

        """

    async def aclose(self) -> None:
        """Let go of connections."""


class FixedKeys:
    """Keys that stay as they are until the configuration is read again."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = keys

    def find(self, algorithm: str, kid: str | None) -> list[Key]:
        """Return the keys to try (see Keys)."""
        return fitting(self._keys, algorithm, kid)

    async def aclose(self) -> None:
        """Do nothing."""


class KeysAtUrl:
    """
    The key set at a URL (RFC 7517 §5), fetched when it is needed and then kept for `cache_s`.

    A token that names a key which is not there fetches it again: but once in `MIN_REFRESH_S` at
    most, however many such tokens come. Those who wait for a fetch share it. Where the URL does
    not answer, keys that are there go on being used until they are `STALE_FACTOR` times
    `cache_s` old.
    """

    def __init__(
        self,
        url: str,
        *,
        cache_s: float,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._cache_s = cache_s
        self._timeout_s = timeout_s
        self._clock = clock
        self._keys: list[Key] = []
        self._fetched_at: float | None = None
        self._asked_at: float | None = None
        self._failure = "not asked yet"
        self._fetch: asyncio.Task[None] | None = None
        self._client = new_client(timeout_s, connections=1, uses_proxies=True)

    def find(self, algorithm: str, kid: str | None) -> Awaitable[list[Key]] | list[Key]:
        """Return the keys to try (see Keys)."""
        if self._is_younger_than(self._cache_s):
            found = fitting(self._keys, algorithm, kid)
            if found or not self._may_ask():
                return found
        return self._find_later(algorithm, kid)

    async def _find_later(self, algorithm: str, kid: str | None) -> list[Key]:
        if self._fetch is None and self._may_ask():
            self._asked_at = self._clock()
            self._fetch = asyncio.get_running_loop().create_task(self._refresh())
        if self._fetch is not None:
            # Shared: one who gives up must not end it for the others.
            await asyncio.shield(self._fetch)
        if not self._is_younger_than(self._cache_s * STALE_FACTOR):
            raise SourceDownError(f"keys of {self._url}: {self._failure}")
        return fitting(self._keys, algorithm, kid)

    def _is_younger_than(self, seconds: float) -> bool:
        return self._fetched_at is not None and self._clock() - self._fetched_at <= seconds

    def _may_ask(self) -> bool:
        # A fetch that is under way is waited for.
        if self._fetch is not None or self._asked_at is None:
            return True
        return self._clock() - self._asked_at >= MIN_REFRESH_S

    async def _refresh(self) -> None:
        try:
            answer = await ask(
                self._client, self._url, timeout_s=self._timeout_s, max_bytes=MAX_DOCUMENT_BYTES
            )
            if answer.status != 200:
                raise SourceDownError(f"answered {answer.status}")
            keys = keys_in(answer.body)
            if not keys:
                raise SourceDownError("no key set with a key that can be used")
        except SourceDownError as fault:
            self._failure = str(fault)
            log.limited(logging.WARNING, "keys not fetched", url=self._url, reason=fault)
            return
        finally:
            self._fetch = None
        self._keys = keys
        self._fetched_at = self._clock()
        log.info("keys fetched", url=self._url, keys=len(keys))

    async def aclose(self) -> None:
        """End a fetch that is under way, and close the connection."""
        if self._fetch is not None:
            self._fetch.cancel()
        await self._client.aclose()


def fitting(keys: Sequence[Key], algorithm: str, kid: str | None) -> list[Key]:
    """Choose those keys that a token with this header may be signed with, few in any case."""
    found = [
        key
        for key in keys
        if key.algorithm == algorithm and (kid is None or key.kid in (None, kid))
    ]
    named = [key for key in found if kid is not None and key.kid == kid]
    return (named or found)[:MAX_TRIED]


def keys_in(document: bytes) -> list[Key]:
    """Read a key set; keys that are no public keys of known kinds for signatures are left out."""
    try:
        content = msgspec.json.decode(document, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError):
        return []
    entries = content.get("keys")
    if not isinstance(entries, list):
        return []
    return [key for entry in entries[:MAX_KEYS] for key in _key_of(entry)]


def _key_of(entry: object) -> Iterator[Key]:
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
        return
    try:
        public = PyJWK(entry).key
    except (PyJWTError, ValueError, TypeError, AttributeError, UnsupportedAlgorithm):
        return
    algorithm = _algorithm_of(public)
    kid = entry.get("kid")
    if algorithm and entry.get("alg", algorithm) == algorithm:
        yield Key(kid if isinstance(kid, str) else None, algorithm, public)


def _algorithm_of(key: object) -> str | None:
    """Tell what a key is good for; None for private and symmetric keys, and unsafe ones."""
    if isinstance(key, rsa.RSAPublicKey):
        return "RS256" if key.key_size >= MIN_RSA_BITS else None
    if isinstance(key, ec.EllipticCurvePublicKey):
        return "ES256" if isinstance(key.curve, ec.SECP256R1) else None
    return "EdDSA" if isinstance(key, ed25519.Ed25519PublicKey) else None


def keys_in_file(path: Path) -> list[Key]:
    """
    Read a file with a public key or a certificate in PEM, or with a key set in JSON.

    Raises:
        ConfigError: it can't be read, or has no key that can be used.

    """
    try:
        content = path.read_bytes()
    except OSError as fault:
        raise ConfigError(f"jwt.keys_file: {path}: can't be read: {fault.strerror}") from None
    if b"PRIVATE KEY-----" in content:
        raise ConfigError(f"jwt.keys_file: {path}: a private key; only its public one is needed")
    keys = _keys_in_pem(content) if b"-----BEGIN" in content else keys_in(content)
    if not keys:
        raise ConfigError(
            f"jwt.keys_file: {path}: no key that can be used; allowed: a public key or a "
            f"certificate in PEM, or a key set in JSON; RSA from {MIN_RSA_BITS} bits, P-256, Ed25519"
        )
    return keys


def _keys_in_pem(content: bytes) -> list[Key]:
    try:
        if b"-----BEGIN CERTIFICATE-----" in content:
            public: object = x509.load_pem_x509_certificate(content).public_key()
        else:
            public = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        return []
    algorithm = _algorithm_of(public)
    return [Key(None, algorithm, public)] if algorithm else []  # type: ignore[arg-type]
