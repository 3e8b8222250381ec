"""Who may subscribe to channels, publish in them, and see who hears them."""

from __future__ import annotations

import hmac
import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from msgspec import UnsetType

from rakit_ws import wire
from rakit_ws.channel_options import ChannelRule, Pattern
from rakit_ws.codes import ErrorCode
from rakit_ws.hub.events import FAULTS, reraise_if_cancelled
from rakit_ws.log import log
from rakit_ws.user import User

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from rakit_ws.access import Access
    from rakit_ws.config import Config
    from rakit_ws.hub.client import Client

Action = Literal["subscribe", "publish", "members"]

# Channels whose rule is kept, so that a publication costs one look-up.
_CACHED_CHANNELS = 4096


class Decider(NamedTuple):
    """A function of the application that decides about channels."""

    pattern: Pattern
    function: Callable[[Client, str, str], Any]


class Permissions:
    """
    The rules of `channels`, and the application's functions in front of them.

    The first function whose pattern covers a channel decides, unless it returns None; then the
    next one, then the first rule. Where there is none everybody may do everything, but see
    members only where presence would tell of them anyway. `counts` outlives a reload.
    """

    def __init__(
        self,
        config: Config,
        access: Access,
        deciders: Sequence[Decider],
        *,
        counts: dict[str, int],
    ) -> None:
        self._access = access
        self._secret = config.channel_secret.encode()
        self._user_messages: str = config.user_messages
        self._most_grants = config.max_channels_per_client
        self._deciders = tuple(deciders)
        self._counts = counts
        self._rules = [(Pattern(rule.pattern), rule) for rule in config.channels]
        self._tells_presence = config.presence.enabled
        self._otherwise = ChannelRule("*")
        self.are_open = not self._deciders and not self._rules
        """Whether everybody may subscribe and publish: nothing needs to be asked."""
        self._rule_for = lru_cache(maxsize=_CACHED_CHANNELS)(self._first_rule)

    def check(
        self, client: Client, action: Action, channel: str, grant: str | UnsetType
    ) -> Awaitable[None] | None:
        """
        See whether a client may; `grant` is what it shows for it.

        Returns what is still to be awaited: an async function. Both raise.

        Raises:
            NotUnderstoodError: forbidden, or internal where a function failed.

        """
        if not isinstance(grant, UnsetType):
            self._take(client, channel, grant)
        for index, decider in enumerate(self._deciders):
            if not decider.pattern.covers(channel):
                continue
            verdict = self._called(decider, client, action, channel)
            if hasattr(verdict, "__await__"):
                return self._check_rest(verdict, index, client, action, channel)
            if verdict is not None:
                self._conclude(client, action, is_allowed=bool(verdict))
                return None
        self._conclude(client, action, is_allowed=self._rule_allows(client, action, channel))
        return None

    async def _check_rest(
        self, pending: Awaitable[Any], index: int, client: Client, action: Action, channel: str
    ) -> None:
        verdict = await self._awaited(self._deciders[index], client, pending)
        for decider in self._deciders[index + 1 :]:
            if verdict is not None:
                break
            if decider.pattern.covers(channel):
                verdict = self._called(decider, client, action, channel)
                if hasattr(verdict, "__await__"):
                    verdict = await self._awaited(decider, client, verdict)
        if verdict is None:
            verdict = self._rule_allows(client, action, channel)
        self._conclude(client, action, is_allowed=bool(verdict))

    def _conclude(self, client: Client, action: Action, *, is_allowed: bool) -> None:
        if is_allowed:
            return
        self._counts["channel_refusals"] += 1
        log.limited(logging.INFO, "channel refused", source=action, action=action, id=client.id)
        raise wire.NotUnderstoodError(ErrorCode.FORBIDDEN, "you may not do this in this channel")

    def check_user_message(self, client: Client) -> None:
        """
        See whether a client may send to users (`user_messages`).

        Raises:
            NotUnderstoodError: forbidden.

        """
        if self._is_in(client, self._user_messages):
            return
        self._counts["user_message_refusals"] += 1
        log.limited(logging.INFO, "message to a user refused", id=client.id)
        raise wire.NotUnderstoodError(ErrorCode.FORBIDDEN, "you may not send to users")

    # --- the rules ----------------------------------------------------------------------------

    def _rule_allows(self, client: Client, action: Action, channel: str) -> bool:
        rule = self._rule_for(channel)
        if action == "members" and not rule.members and not self._tells_presence:
            return False
        audience = rule.audience(action)
        if audience == "grant":
            return self._is_granted(client, channel)
        return self._is_in(client, audience)

    def _is_in(self, client: Client, audience: str) -> bool:
        if audience == "users":
            return client.user is not None
        if audience == "operators":
            return self._access.is_operator(client)
        return audience == "everyone"

    def _first_rule(self, channel: str) -> ChannelRule:
        found = (rule for pattern, rule in self._rules if pattern.covers(channel))
        return next(found, self._otherwise)

    # --- grants -------------------------------------------------------------------------------

    def _take(self, client: Client, channel: str, grant: str) -> None:
        """Remember a channel that a client shows a valid grant for, while there is room."""
        if not self._is_signed(client, channel, grant):
            return
        if len(client.grants) < self._most_grants or channel in client.grants:
            client.grants |= {channel}
        else:
            client.grants = frozenset((channel,))

    def _is_granted(self, client: Client, channel: str) -> bool:
        if channel in client.grants:
            return True
        user = client.user
        return isinstance(user, User) and any(
            Pattern(pattern).covers(channel) for pattern in user.channels
        )

    def _is_signed(self, client: Client, channel: str, grant: str) -> bool:
        """Compare in constant time. No other client has this id, now or later."""
        if not self._secret:
            return False
        signature = hmac.digest(self._secret, f"{client.id}:{channel}".encode(), "sha256").hex()
        return hmac.compare_digest(signature.encode(), grant.encode())

    # --- the application's functions ----------------------------------------------------------

    def _called(self, decider: Decider, client: Client, action: Action, channel: str) -> Any:
        try:
            return decider.function(client, action, channel)
        except FAULTS as error:  # the application's
            raise self._failed(decider, client, error) from None

    async def _awaited(self, decider: Decider, client: Client, pending: Awaitable[Any]) -> Any:
        try:
            return await pending
        except FAULTS as error:  # as above
            reraise_if_cancelled(error)
            raise self._failed(decider, client, error) from None

    def _failed(
        self, decider: Decider, client: Client, error: BaseException
    ) -> wire.NotUnderstoodError:
        self._counts["channel_refusals"] += 1
        log.limited(
            logging.ERROR,
            "channel function failed",
            source=decider.pattern.text,
            error=error,
            pattern=decider.pattern.text,
            id=client.id,
        )
        return wire.NotUnderstoodError(ErrorCode.INTERNAL, "whether you may can't be told now")


async def act_when_permitted(
    client: Client, pending: Awaitable[None], act: Callable[[], object]
) -> None:
    """Act once `check` has come to its end, unless the client was disconnected meanwhile."""
    await pending
    if not client.is_leaving:
        act()


def new_counts() -> dict[str, int]:
    """Make the totals of a server (`docs/counters.md`)."""
    return {"channel_refusals": 0, "user_message_refusals": 0}
