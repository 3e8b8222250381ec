"""The tables `[jwt]` and `[http]`: users from tokens, and from a URL of the application."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from rakit_ws.options import (
    Table,
    boolean,
    integer,
    is_host_header,
    is_line,
    is_token,
    names,
    option,
    seconds,
    string,
)

ALGORITHMS = ("HS256", "RS256", "ES256", "EdDSA")
MIN_SECRET_CHARS = 32


@dataclass(frozen=True, kw_only=True)
class Jwt(Table):
    """The table `[jwt]`: tokens that name a user, and what they must be signed with."""

    algorithms: tuple[str, ...] = option(
        "the only algorithms that tokens may be signed with",
        names(", ".join(ALGORITHMS), ALGORITHMS.__contains__),
        default=("HS256",),
        zero="no token is valid",
        cost="a verification for each token: HS256 about 20 µs, RS256 50, ES256 and EdDSA 100 to 200",
        precedent="RFC 8725 §3.1: never what the token itself says",
    )
    secret: str = option(
        "the secret of HS256, as the issuer has it; never printed nor logged",
        string(
            f"{MIN_SECRET_CHARS} characters or more, on one line, and no key in PEM",
            lambda text: text == "" or is_token_secret(text),
        ),
        default="",
        zero="no tokens with HS256",
        cost="whoever has it can be any user",
        precedent="RFC 7518 §3.2: as long as the hash, 32 bytes",
        secret=True,
    )
    keys_file: str = option(
        "the file with the public keys of the other algorithms: a key or a certificate in PEM, or a "
        "key set (JWKS) in JSON",
        string("empty, or the path of a file", lambda text: text == "" or is_line(text)),
        default="",
        zero="they are read from `keys_url`",
    )
    keys_url: str = option(
        "the URL of the key set (JWKS) of the issuer",
        string(
            "empty, or a URL that begins with https:// or http://",
            lambda text: text == "" or is_url(text),
        ),
        default="",
        zero="they are read from `keys_file`",
        cost="who needs a key that is not there yet waits for an answer",
        reached="no answer: keys that are there are used up to twelve times `keys_cache`, then the "
        "source is down",
    )
    keys_cache: float = option(
        "how long keys of `keys_url` are used before they are fetched again; for one that is not "
        "among them they are, at most every 10 s",
        seconds(1, 86_400),
        default=600.0,
        unit="seconds",
        zero="not allowed",
        cost="a key that the issuer takes back is good this much longer",
        reached="they are fetched again",
        precedent="PyJWT's own client 300 s, Auth0's advice 10 minutes to a day",
    )
    issuer: str = option(
        "what the claim `iss` must be",
        string("empty, or one line of text", lambda text: text == "" or is_line(text)),
        default="",
        zero="it is not looked at",
        reached="the token is not valid",
    )
    audience: tuple[str, ...] = option(
        "what the claim `aud` must be, or have one of",
        names("texts of one line", is_line),
        default=(),
        zero="a token that has `aud` is not valid, as it is meant for somebody else (RFC 7519 §4.1.3)",
        reached="the token is not valid",
    )
    leeway: float = option(
        "how far the clocks of issuer and server may be apart",
        seconds(0, 300),
        default=5.0,
        unit="seconds",
        zero="not at all",
        cost="tokens are good for this much longer",
        reached="the token has expired, or is not good yet",
        precedent="RFC 7519 §4.1.4: no more than a few minutes",
    )
    require_expiry: bool = option(
        "take only tokens with the claim `exp`",
        boolean(),
        default=True,
        cost="if false, a token that was stolen once is good for ever",
    )
    query_parameter: str = option(
        "the parameter of the request's query that may have the token, for browsers: they can set no "
        "header; proxies may log it",
        string(
            "empty, or letters, digits, - and _",
            lambda text: re.fullmatch(r"[A-Za-z0-9_-]*", text) is not None,
        ),
        default="",
        zero='only `Authorization: Bearer`, and `{"event":"auth"}`',
    )
    id_claim: str = option(
        "the claim with the user's id, a string or an integer",
        string("a claim's name", is_line),
        default="sub",
        zero="not allowed",
    )
    name_claim: str = option(
        "the claim with the name to show",
        string("a claim's name", is_line),
        default="name",
        zero="not allowed",
    )
    email_claim: str = option(
        "the claim with the e-mail address",
        string("a claim's name", is_line),
        default="email",
        zero="not allowed",
    )
    channels_claim: str = option(
        "the claim with a list of channels that the user needs no grant for",
        string("a claim's name", is_line),
        default="channels",
        zero="not allowed",
    )


def is_passed_on(text: str) -> bool:
    """Whether `text` is a header that may be passed on to another server."""
    own = ("host", "connection", "upgrade", "te", "trailer", "transfer-encoding", "content-length")
    name = text.lower()
    return is_token(text) and name not in own and not name.startswith(("sec-websocket-", "proxy-"))


@dataclass(frozen=True, kw_only=True)
class Http(Table):
    """The table `[http]`: a URL of the application that says who a handshake is from."""

    url: str = option(
        "the URL that is asked: it gets the headers below, and answers with a user in JSON",
        string(
            "empty, or a URL that begins with https:// or http://",
            lambda text: text == "" or is_url(text),
        ),
        default="",
        zero="with the source `http` it must be set",
        cost="a request for each handshake that has one of the headers; equal ones share it",
    )
    headers: tuple[str, ...] = option(
        "the headers of a handshake that are passed on; without any of them it is a guest's",
        names("names of headers that are not the connection's own", is_passed_on),
        default=("cookie",),
        zero="nobody is asked about",
        cost="whoever answers at `url` learns them",
    )
    host: str = option(
        "the Host header of the question, where that is not the host of `url`",
        string("empty, or a name or address[:port]", lambda text: not text or is_host_header(text)),
        default="",
        zero="the host of `url`",
    )
    max_requests: int = option(
        "most questions under way",
        integer(1, 1000),
        default=16,
        unit="requests",
        zero="not allowed",
        cost="one descriptor, and one worker of the application, for each",
        reached="further ones wait their turn within `auth.timeout`",
        precedent="below PHP-FPM's usual pm.max_children (5 to 50), which pages need too",
    )
    cache: float = option(
        "how long a user is kept for further handshakes with the same headers",
        seconds(0, 3600),
        default=5.0,
        unit="seconds",
        zero="the application is asked each time",
        cost="who has logged out may connect this much longer; up to 10,000 users in memory",
        reached="the application is asked again",
        precedent="as `rakit.user_cache`",
    )


def is_token_secret(text: str) -> bool:
    """Whether `text` is a secret that nobody can guess, and that is not public."""
    return len(text) >= MIN_SECRET_CHARS and text.isprintable() and "-----BEGIN" not in text


def is_url(text: str) -> bool:
    """Whether `text` is a URL of the web, without a user in it."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return False
    is_sound = re.fullmatch(r"[!-~]+", text) is not None and not parts.fragment
    has_host = bool(parts.hostname) and "@" not in parts.netloc and port != 0
    return is_sound and has_host and parts.scheme in ("http", "https")
