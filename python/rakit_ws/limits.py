"""Limits that a client has met: how the log tells of them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from rakit_ws.codes import CloseCode
from rakit_ws.log import log

if TYPE_CHECKING:
    from collections.abc import Mapping

LIMITS: Final[Mapping[tuple[int, str], str]] = {
    (CloseCode.TOO_BIG, "message too big"): "max_buffer_size",
    (CloseCode.POLICY, "too many fragments"): "max_fragments",
    (CloseCode.POLICY, "too many control frames"): "max_control_frames_per_second",
    (CloseCode.POLICY, "too many messages"): "rate_limit",
    (CloseCode.SLOW_READER, "reads too slowly"): "max_send_buffer",
    (CloseCode.PING_TIMEOUT, "no pong in time"): "ping_timeout",
}
"""The option whose limit is over when the engine closes with this code and reason."""


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
