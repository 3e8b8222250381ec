"""Limits that clients meet: those that Python holds, and how counters and log tell of all."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Final

from rakit_ws.codes import CloseCode
from rakit_ws.log import log

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rakit_ws.config import Config

BY_CLOSE: Final[Mapping[tuple[int, str], str]] = {
    (CloseCode.TOO_BIG, "message too big"): "max_buffer_size",
    (CloseCode.POLICY, "too many fragments"): "max_fragments",
    (CloseCode.POLICY, "too many control frames"): "max_control_frames_per_second",
    (CloseCode.POLICY, "too many messages"): "rate_limit",
    (CloseCode.SLOW_READER, "reads too slowly"): "max_send_buffer",
    (CloseCode.PING_TIMEOUT, "no pong in time"): "ping_timeout",
}
"""The option whose limit was passed where the engine closes with this code and reason."""

COUNTERS: Final[Mapping[str, str]] = {
    "max_channels_per_client": "over_max_channels_per_client",
    "max_channels": "over_max_channels",
    "max_channel_name_bytes": "channel_names_too_long",
    "max_json_depth": "json_too_deep",
    "max_errors": "error_floods",
}
"""The limits that Python holds, and what counts each."""

_MINUTE_S = 60.0


class Limits:
    """The limits that Python holds, and how often each was met."""

    def __init__(self, config: Config, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.counters = dict.fromkeys(COUNTERS.values(), 0)
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Let other limits hold from now on."""
        self.max_channels_per_client = config.max_channels_per_client
        self.max_channels = config.max_channels
        self.max_channel_name_bytes = config.max_channel_name_bytes
        self.max_json_depth = config.max_json_depth
        self.max_errors = config.max_errors

    def meet(self, option: str, *, client_id: str, peer: str) -> None:
        """Count, and say in the log, that a client wanted more than an option allows."""
        self.counters[COUNTERS[option]] += 1
        log_limit(option, client_id=client_id, peer=peer)

    def take_error(self, budget: ErrorBudget | None) -> ErrorBudget:
        """Count an error of the client whose budget this is; None: its first one."""
        now_s = self._clock()
        if budget is None:
            budget = ErrorBudget(self.max_errors, now_s)
        budget.take(self.max_errors, now_s)
        return budget


class ErrorBudget:
    """What one client may still do wrong: so much at once, and as much again in a minute."""

    __slots__ = ("_at_s", "_left", "is_overdrawn")

    def __init__(self, most: int, now_s: float) -> None:
        self._left = float(most)
        self._at_s = now_s
        self.is_overdrawn = False

    def take(self, most: int, now_s: float) -> None:
        """Take one out, of what time has put back; `most` 0 is no limit."""
        if most == 0:
            self._left = math.inf  # should there be a limit later, it begins full
            return
        self._left = min(most, self._left + (now_s - self._at_s) * most / _MINUTE_S) - 1
        self._at_s = now_s
        self.is_overdrawn = self._left < 0


def log_limit(option: str, *, client_id: str, peer: str) -> None:
    """Say that a client is over a limit; once a second for each option, with how many more were."""
    log.limited(
        logging.WARNING,
        "limit reached",
        source=option,
        limit=option,
        id=client_id,
        peer=peer,
    )
