"""Channels, as clients use them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rakit_ws import wire
from rakit_ws.codes import ErrorCode

if TYPE_CHECKING:
    from rakit_ws.hub.client import Client
    from rakit_ws.hub.hub import Hub


class Channels:
    """Subscriptions, within the bounds that clients have."""

    def __init__(self, hub: Hub, *, max_per_client: int) -> None:
        self._hub = hub
        self._max_per_client = max_per_client

    def subscribe(self, client: Client, channel: str) -> None:
        """
        Let `client` hear `channel`. A second time is a success.

        Raises:
            NotUnderstoodError: too_many_channels, or a name that no channel can have.

        """
        wire.check_channel(channel)
        engine = self._hub.engine
        is_full = engine.topic_count(client.handle) >= self._max_per_client
        if is_full and not engine.hears(client.handle, channel):
            raise wire.NotUnderstoodError(
                ErrorCode.TOO_MANY_CHANNELS, f"at most {self._max_per_client} channels a client"
            )
        engine.subscribe(client.handle, channel)

    def unsubscribe(self, client: Client, channel: str) -> None:
        """Let `client` no longer hear `channel`. If it did not, that is a success too."""
        wire.check_channel(channel)
        self._hub.engine.unsubscribe(client.handle, channel)
