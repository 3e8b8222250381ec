"""Who may give commands."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rakit_ws.config import Config
    from rakit_ws.hub.client import Client

ACCESS = ("everyone", "operators", "nobody")


class Access:
    """Who may give commands (`command_access`)."""

    def __init__(self, config: Config, *, is_loopback_only: bool) -> None:
        self._token = config.operator_token.encode()
        self._operators = frozenset(config.operators)
        self.mode: str = config.command_access
        if self.mode == "auto":
            self.mode = "local" if is_loopback_only else "operators"

    def describe(self) -> str:
        """Say for the log who may."""
        if self.mode == "local":
            return "programs and pages of this machine, and operators"
        return self.mode

    def permits_at_connect(self, *, is_local: bool) -> bool:
        """Tell whether a client may give commands whoever it is."""
        return self.mode == "everyone" or (self.mode == "local" and is_local)

    def permits(self, client: Client, special: str | None = None) -> bool:
        """Tell whether `client` may give a command; `special` is the command's own access."""
        mode = special or self.mode
        if mode in ("everyone", "nobody"):
            return mode == "everyone"
        if special is None and client.may_command:
            return True
        return self.is_operator(client)

    def is_operator(self, client: Client) -> bool:
        """Tell whether a client has presented the token, or its user is one of `operators`."""
        return client.is_operator or self._lists(client)

    def _lists(self, client: Client) -> bool:
        """Tell whether the client's user is one of `operators`, by id or e-mail address."""
        if client.user is None:
            return False
        names = (str(getattr(client.user, "id", "")), client.email)
        return not self._operators.isdisjoint(names)

    def is_token(self, token: str) -> bool:
        """Tell, in constant time, whether this is the operator token. There may be none."""
        return bool(self._token) and hmac.compare_digest(token.encode(), self._token)


def bearer_token(authorization: str | None) -> str:
    """Return the token of an `Authorization: Bearer …` header (RFC 6750 §2.1), "" if none."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
