"""Tokens that clients present behind their handshake: `{"event":"auth","token":…}`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from rakit_ws import wire
from rakit_ws.codes import ErrorCode
from rakit_ws.errors import SourceDownError
from rakit_ws.log import log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rakit_ws.access import Access
    from rakit_ws.hub.client import Client
    from rakit_ws.hub.hub import Hub
    from rakit_ws.user import Identified


class Tokens:
    """
    Takes the operator's token, or one that a source of users knows.

    `identify` is that of a `Chain`: it returns at once where no source takes tokens.
    """

    def __init__(
        self,
        hub: Hub,
        access: Access,
        identify: Callable[[str], Awaitable[Identified | None] | None],
    ) -> None:
        self._hub = hub
        self._access = access
        self._identify = identify

    def present(self, client: Client, token: str, request_id: bytes) -> Awaitable[None] | None:
        """
        Make a client what its token says, and acknowledge; return what is still to be awaited.

        Raises:
            NotUnderstoodError: forbidden.

        """
        if self._access.is_token(token):
            client.has_token = client.is_operator = True
            log.info("operator authenticated", id=client.id)
            self._hub.acknowledge(client, request_id, "operator", b"true")
            return None
        pending = self._identify(token)
        if pending is None:
            raise _refused(client)
        return self._identify_later(client, pending, request_id)

    async def _identify_later(
        self, client: Client, pending: Awaitable[Identified | None], request_id: bytes
    ) -> None:
        try:
            found = await pending
            if found is None:
                raise _refused(client)
        except wire.NotUnderstoodError as refusal:
            self._hub.answer_error(client, request_id, refusal.code, refusal.text)
        except SourceDownError as fault:
            self._hub.answer_error(client, request_id, ErrorCode.INTERNAL, str(fault))
        else:
            client.identified = found
            client.user = found.user
            log.limited(logging.INFO, "client authenticated", id=client.id, user=client.user_id)
            self._hub.acknowledge(client, request_id, "user", wire.encode(client.user_id))


def _refused(client: Client) -> wire.NotUnderstoodError:
    log.limited(logging.WARNING, "token not valid", id=client.id)
    return wire.NotUnderstoodError(ErrorCode.FORBIDDEN, "this token is not valid")
