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

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._limits = hub.limits

    def subscribe(self, client: Client, channel: str) -> None:
        """
        Let `client` hear `channel`. A second time is a success.

        Raises:
            NotUnderstoodError: too_many_channels, or a name that no channel can have.

        """
        wire.check_channel(channel)
        self._check_length(client, channel)
        engine = self._hub.engine
        if not engine.hears(client.handle, channel):
            self._check_room(client, channel)
            engine.subscribe(client.handle, channel)

    def unsubscribe(self, client: Client, channel: str) -> None:
        """Let `client` no longer hear `channel`. If it did not, that is a success too."""
        wire.check_channel(channel)
        self._hub.engine.unsubscribe(client.handle, channel)

    def members(self, channel: str, most: int) -> list[Client]:
        """Return clients that hear `channel`, at most so many, oldest first."""
        by_handle = self._hub.by_handle
        handles = self._hub.engine.subscribers(channel, most)
        # Who is still undecided may hear it already, and is not here yet.
        found = [by_handle[handle] for handle in handles if handle in by_handle]
        return sorted(found, key=lambda client: client.connected_at)

    def _check_length(self, client: Client, channel: str) -> None:
        most = self._limits.max_channel_name_bytes
        if len(channel.encode()) > most:
            self._hub.meet_limit("max_channel_name_bytes", client)
            raise wire.bad_request(f"the name of a channel has at most {most} bytes here")

    def _check_room(self, client: Client, channel: str) -> None:
        engine, limits = self._hub.engine, self._limits
        if engine.topic_count(client.handle) >= limits.max_channels_per_client:
            self._hub.meet_limit("max_channels_per_client", client)
            raise wire.NotUnderstoodError(
                ErrorCode.TOO_MANY_CHANNELS,
                f"at most {limits.max_channels_per_client} channels a client",
            )
        is_full = 0 < limits.max_channels <= engine.topic_total
        if is_full and not engine.has_topic(channel):
            self._hub.meet_limit("max_channels", client)
            raise wire.NotUnderstoodError(
                ErrorCode.TOO_MANY_CHANNELS, "there are too many channels already"
            )
