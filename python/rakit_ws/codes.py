"""The numbers and words of the wire: close codes, opcodes, error codes."""

from __future__ import annotations

from enum import Enum, IntEnum


class CloseCode(IntEnum):
    """
    Why a connection ended (RFC 6455 §7.4.1; 4000 and up are ours, §7.4.2).

    NO_STATUS and ABNORMAL are only ever reported, never sent.
    """

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED = 1003
    NO_STATUS = 1005
    ABNORMAL = 1006
    INVALID_PAYLOAD = 1007
    POLICY = 1008
    TOO_BIG = 1009
    INTERNAL = 1011
    SLOW_READER = 1013
    DISCONNECTED = 4000
    SESSION_ENDED = 4001
    PING_TIMEOUT = 4008


class Opcode(IntEnum):
    """What a frame carries (RFC 6455 §5.2). 8 and above are control frames."""

    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


class ErrorCode(str, Enum):
    """The `code` of an `error` object: what a client asked for and did not get."""

    UNKNOWN_COMMAND = "unknown_command"
    FORBIDDEN = "forbidden"
    BAD_REQUEST = "bad_request"
    TOO_MANY_CHANNELS = "too_many_channels"
    UNKNOWN_EVENT = "unknown_event"
    UNKNOWN_CLIENT = "unknown_client"
    UNSUPPORTED_BINARY = "unsupported_binary"
    RATE_LIMITED = "rate_limited"
    INTERNAL = "internal"

    def __str__(self) -> str:
        # As in Python 3.11's StrEnum: formatting gives the word on every version.
        return self.value


BUILT_IN_COMMANDS = (
    "broadcast",
    "disconnect",
    "presence",
    "broadcast_to_channel",
    "private_message",
)
"""The commands of the protocol."""
