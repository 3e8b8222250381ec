"""
The WebSocket server of the Rakit framework, on a Rust core.

    from rakit_ws import Server

    Server(port=6001).run()

Also the frame core on its own: `FrameDecoder`, `encode_frame`, `apply_mask`.
"""

from __future__ import annotations

import sys

if sys.platform not in ("linux", "darwin"):
    raise ImportError(
        f"rakit_ws runs on Linux and macOS, not on {sys.platform}: its engine needs epoll or kqueue"
    )

from rakit_ws._core import (
    Close,
    Failed,
    FrameDecoder,
    Message,
    Ping,
    Pong,
    Request,
    __version__,
    apply_mask,
    encode_frame,
)
from rakit_ws.codes import CloseCode, ErrorCode, Opcode
from rakit_ws.config import Config
from rakit_ws.errors import (
    ConfigError,
    CrashedError,
    ListenError,
    RakitWsError,
    Refused,
    SourceDownError,
    UsageError,
)
from rakit_ws.hub.client import Client
from rakit_ws.server import Delivered, Server
from rakit_ws.user import User

__all__ = [
    "Client",
    "Close",
    "CloseCode",
    "Config",
    "ConfigError",
    "CrashedError",
    "Delivered",
    "ErrorCode",
    "Failed",
    "FrameDecoder",
    "ListenError",
    "Message",
    "Opcode",
    "Ping",
    "Pong",
    "RakitWsError",
    "Refused",
    "Request",
    "Server",
    "SourceDownError",
    "UsageError",
    "User",
    "__version__",
    "apply_mask",
    "encode_frame",
]
