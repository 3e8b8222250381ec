"""Who may open a connection, as far as the request alone can tell."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rakit_ws.errors import Refused
from rakit_ws.options import is_address, is_origin

if TYPE_CHECKING:
    from rakit_ws._core import Request
    from rakit_ws.config import Config

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}

# Set by proxies: a request with one of these has come through somebody else.
_FORWARDING_HEADERS = (
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
)


@dataclass(frozen=True)
class Origin:
    """Scheme, host and port: what origins are compared by (RFC 6454 §4)."""

    scheme: str
    host: str
    port: int | None

    @classmethod
    def parse(cls, text: str) -> Origin | None:
        """Read an `Origin` header or an entry of `allowed_origins`; None if it is neither."""
        # Stricter than the parser, which drops tabs and keeps backslashes in the host.
        if not is_origin(text):
            return None
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            return None
        is_bare = not (parts.path or parts.query or parts.fragment or "@" in parts.netloc)
        if not (parts.scheme and parts.hostname and is_bare):
            return None
        default = DEFAULT_PORTS.get(parts.scheme)
        return cls(parts.scheme, parts.hostname, default if port is None else port)

    def covers(self, other: Origin) -> bool:
        """
        Tell whether `other` is this origin, or one that this pattern stands for.

        `*.` in front of the host stands for one or more whole labels, and for nothing else.
        """
        if (self.scheme, self.port) != (other.scheme, other.port):
            return False
        if self.host.startswith("*."):
            return other.host.endswith(self.host[1:]) and other.host != self.host[1:]
        return self.host == other.host


class Admission:
    """The rules of the configuration that a request must meet (protocol §1)."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._hosts = {host.lower() for host in config.allowed_hosts}
        self._origins = [
            origin for text in config.allowed_origins if (origin := Origin.parse(text))
        ]
        self._allows_null = "null" in config.allowed_origins
        self._cookie_origins = [
            origin for text in config.auth.cookie_origins if (origin := Origin.parse(text))
        ]

    def check(self, request: Request) -> str | None:
        """
        Check a request; return the subprotocol to answer with, None for none.

        Raises:
            Refused: 404 for another path, 400 for the host, the subprotocols or the
                extensions, 403 for the origin.

        """
        config = self._config
        if config.path and request.path != config.path:
            raise Refused(404, "there is no WebSocket at this path")
        if self._hosts and (request.header("host") or "").lower() not in self._hosts:
            raise Refused(400, "this host is not served here")
        if config.origin_required or config.allowed_origins:
            self._check_origin(request.header("origin"))
        if config.extensions_required and not request.agreed_extensions:
            raise Refused(400, "no common extension")
        return self._subprotocol(request)

    def may_use_cookies(self, request: Request) -> bool:
        """
        Tell whether the page that sends a request may act for the user of its cookies.

        Browsers send cookies along whatever page opens the WebSocket. So it must be a page of
        the host that is asked, or of `allowed_origins` or `auth.cookie_origins`; programs send no
        Origin.
        """
        text = request.header("origin")
        if text is None:
            return True
        # A proxy may have ended TLS: that the scheme is the same is not to be seen here.
        host = request.header("host")
        if host and text in (f"https://{host}", f"http://{host}"):
            return True  # as browsers write it; the rest is dear
        if self._is_allowed(text):
            return True
        origin = None if "*" in text else Origin.parse(text)
        if origin is None:
            return False
        if any(known.covers(origin) for known in self._cookie_origins):
            return True
        # Other schemes are those of programs that call their pages as they like.
        is_web = origin.scheme in ("http", "https")
        return is_web and origin == Origin.parse(f"{origin.scheme}://{host}")

    def _check_origin(self, origin: str | None) -> None:
        if origin is None:
            if self._config.origin_required:
                raise Refused(403, "an Origin is required")
        elif self._config.allowed_origins and not self._is_allowed(origin):
            raise Refused(403, "this origin is not allowed")

    def _is_allowed(self, text: str) -> bool:
        if text == "null" or not self._origins:
            return text == "null" and self._allows_null
        origin = None if "*" in text else Origin.parse(text)
        return origin is not None and any(known.covers(origin) for known in self._origins)

    def _subprotocol(self, request: Request) -> str | None:
        """Choose the first of the client's that is supported, as the reference does."""
        offered = request.subprotocols
        supported = self._config.supported_protocols
        chosen = next((name for name in offered if name in supported), None)
        if self._config.protocol_required and chosen is None:
            raise Refused(400, "no common subprotocol")
        return chosen


def is_local(request: Request) -> bool:
    """
    Tell whether a request to a loopback address comes from a program or a page of this machine.

    No proxy says that it has passed it on, and no browser that a page from elsewhere sends it:
    any page on the web may open a WebSocket to its visitor's own machine. `null` is elsewhere
    too: a sandboxed frame has that origin. So is one that equals `Host`: a hostile name may
    resolve to 127.0.0.1.
    """
    names = _FORWARDING_HEADERS
    is_direct = request.proxy is None and all(request.header(name) is None for name in names)
    origin = request.header("origin")
    return is_direct and (origin is None or _is_loopback(Origin.parse(origin)))


def _is_loopback(origin: Origin | None) -> bool:
    if origin is None:
        return False
    if origin.host == "localhost" or origin.host.endswith(".localhost"):
        return True
    return is_address(origin.host) and ip_address(origin.host).is_loopback
