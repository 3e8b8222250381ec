"""The source `jwt`: who a signed token says it is (RFC 7519)."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

import jwt

from rakit_ws.access import bearer_token
from rakit_ws.auth.claims import seconds_of, user_of
from rakit_ws.auth.keys import FixedKeys, KeysAtUrl, keys_in_file
from rakit_ws.errors import ConfigError
from rakit_ws.log import log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable

    from rakit_ws._core import Request
    from rakit_ws.auth.keys import Key, Keys
    from rakit_ws.source_options import Jwt
    from rakit_ws.user import User

SYMMETRIC = "HS256"
MAX_TOKEN_CHARS = 16 * 1024
"""Longer ones are not looked at: what a header may have by default."""

# Of the token and not of the user.
_REGISTERED = ("iss", "sub", "aud", "exp", "nbf", "iat", "jti")

# PyJWT's own, and what Python's JSON and numbers raise on what a peer may send.
_FAULTS = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)


class JwtSource:
    """
    Knows whoever presents a token that is signed with a key of the configuration.

    Tokens come in `Authorization: Bearer`, in a query parameter where one is configured, or from
    `{"event":"auth"}` (`identify`). A token that is not valid makes nobody a user; why is
    in the log, and in `counts`.

    Raises:
        ConfigError: no key for an algorithm, or no algorithm for a key, or a file that can't be
            read.

    """

    name = "jwt"
    reads_cookies = False

    def __init__(self, settings: Jwt, *, timeout_s: float, counts: dict[str, int]) -> None:
        self._settings = settings
        self._counts = counts
        self._secret = settings.secret if SYMMETRIC in settings.algorithms else ""
        self._keys = _keys(settings, timeout_s)
        self._options: Any = {
            "require": ["exp"] if settings.require_expiry else [],
            # PHP makes integers of ids: `user_of` looks at them.
            "verify_sub": False,
            "verify_jti": False,
            "verify_iss": bool(settings.issuer),
        }

    def authenticate(self, request: Request) -> Awaitable[User | None] | User | None:
        """Return whose token comes with a handshake (see Source)."""
        token = bearer_token(request.header("authorization"))
        if not is_token(token) and self._settings.query_parameter:
            token = query_value(request.target, self._settings.query_parameter) or ""
        return self.identify(token) if is_token(token) else None

    def recheck(self, _request: Request, user: User) -> User:
        """Return the same: a token is good until `expires_at`."""
        return user

    def identify(self, token: str) -> Awaitable[User | None] | User | None:
        """
        Return whom a token names, at once or when awaited; None: it is not valid.

        Raises:
            SourceDownError: (perhaps when awaited) the keys can't be had now.

        """
        try:
            if len(token) > MAX_TOKEN_CHARS:
                raise jwt.DecodeError(f"longer than {MAX_TOKEN_CHARS} characters")
            header = jwt.get_unverified_header(token)
            algorithm, kid = header.get("alg"), header.get("kid")
            if algorithm not in self._settings.algorithms:
                raise jwt.InvalidAlgorithmError("an algorithm that is not one of jwt.algorithms")
            if algorithm == SYMMETRIC:
                return self._user(token, SYMMETRIC, (self._secret,))
        except _FAULTS as fault:
            self._refuse(fault)
            return None
        found = self._keys.find(algorithm, kid)
        if not isinstance(found, list):
            return self._identify_later(token, algorithm, found)
        return self._user_signed(token, algorithm, found)

    async def _identify_later(
        self, token: str, algorithm: str, pending: Awaitable[list[Key]]
    ) -> User | None:
        return self._user_signed(token, algorithm, await pending)

    def _user_signed(self, token: str, algorithm: str, keys: list[Key]) -> User | None:
        try:
            if not keys:
                raise jwt.InvalidKeyError("no key of this name")
            return self._user(token, algorithm, [key.public for key in keys])
        except _FAULTS as fault:
            self._refuse(fault)
            return None

    def _user(self, token: str, algorithm: str, keys: Iterable[Any]) -> User | None:
        claims = self._claims(token, algorithm, keys)
        settings = self._settings
        expires = seconds_of(claims.get("exp"))
        if expires is None and "exp" in claims:
            raise jwt.DecodeError("exp is no time")  # PyJWT takes the text of one, too
        user = user_of(
            claims,
            id_key=settings.id_claim,
            name_key=settings.name_claim,
            email_key=settings.email_claim,
            channels_key=settings.channels_claim,
            expires_at=None if expires is None else expires + settings.leeway,
            left_out=_REGISTERED,
        )
        if user is None:
            raise jwt.InvalidTokenError(f"no {settings.id_claim} that is a string or an integer")
        return user

    def _claims(self, token: str, algorithm: str, keys: Iterable[Any]) -> dict[str, Any]:
        """Return what a token says, if one of these keys has signed it and it is meant for us."""
        for key in keys:
            # Not this key; any other fault is for the caller.
            with contextlib.suppress(jwt.InvalidSignatureError):
                return self._claims_signed(token, algorithm, key)
        raise jwt.InvalidSignatureError("Signature verification failed")

    def _claims_signed(self, token: str, algorithm: str, key: Any) -> dict[str, Any]:
        settings = self._settings
        return jwt.decode(
            token,
            key,
            algorithms=[algorithm],  # one of ours, and the only one of this key
            options=self._options,
            audience=settings.audience or None,
            issuer=settings.issuer or None,
            leeway=settings.leeway,
        )

    def _refuse(self, fault: Exception) -> None:
        self._counts["tokens_refused"] += 1
        # PyJWT's texts name claims and what is wrong with them, never the token.
        log.limited(logging.INFO, "token refused", reason=f"{type(fault).__name__}: {fault}")

    async def aclose(self) -> None:
        """Let go of connections."""
        await self._keys.aclose()


def is_token(text: str) -> bool:
    """Whether a text may be a signed token; the operator token, for one, need not be."""
    return text.count(".") == 2


def query_value(target: str, name: str) -> str | None:
    """Return the first value of a parameter in the query of a request target."""
    for part in target.partition("?")[2].split("&"):
        key, equals, value = part.partition("=")
        if equals and unquote_plus(key) == name:
            return unquote_plus(value)
    return None


def _keys(settings: Jwt, timeout_s: float) -> Keys:
    asymmetric = [name for name in settings.algorithms if name != SYMMETRIC]
    if settings.keys_file and settings.keys_url:
        raise ConfigError("jwt.keys_file and jwt.keys_url are both set; one of them has the keys")
    has_keys = bool(settings.keys_file or settings.keys_url)
    if asymmetric and not has_keys:
        names = ", ".join(asymmetric)
        raise ConfigError(
            f"jwt.algorithms: {names} without keys: set jwt.keys_file or jwt.keys_url"
        )
    if not asymmetric and has_keys:
        raise ConfigError(
            f"jwt.algorithms: public keys, but only {SYMMETRIC}: whoever has a public key could "
            "sign; name RS256, ES256 or EdDSA"
        )
    if SYMMETRIC in settings.algorithms and not settings.secret:
        raise ConfigError(f"jwt.secret: missing; jwt.algorithms has {SYMMETRIC}")
    if settings.secret and SYMMETRIC not in settings.algorithms:
        raise ConfigError(f"jwt.secret is set, but {SYMMETRIC} is not in jwt.algorithms")
    if settings.keys_url:
        return KeysAtUrl(settings.keys_url, cache_s=settings.keys_cache, timeout_s=timeout_s)
    if not settings.keys_file:
        return FixedKeys(())
    keys = keys_in_file(Path(settings.keys_file))
    if not any(key.algorithm in asymmetric for key in keys):
        raise ConfigError(
            f"jwt.keys_file: {settings.keys_file}: only for {keys[0].algorithm}, which is not in "
            "jwt.algorithms"
        )
    return FixedKeys(keys)
