"""FastLZ, the compression that PHP's memcached extension takes by default. Reading only."""

from __future__ import annotations

from rakit_ws.rakit.php import MalformedError

# A match of the second level that is this far away says so in two more bytes.
_FAR = 8191


def decompress(data: bytes, *, max_bytes: int) -> bytes:
    """
    Return what was compressed, on either level.

    Raises:
        MalformedError: it was not, or would be more than `max_bytes`.

    """
    try:
        return _decompressed(data, max_bytes)
    except IndexError:
        raise MalformedError("fastlz: it ends too early") from None


def _decompressed(data: bytes, max_bytes: int) -> bytes:
    """
    Follow the instructions: a byte below 32 copies as many bytes, and one, from the input.

    Any other is a match: three bits of length, five of distance, and what they need more.
    """
    level = data[0] >> 5
    if level > 1:
        raise MalformedError(f"fastlz: there is no level {level + 1}")
    output = bytearray()
    code, at = data[0] & 0b11111, 1
    while True:
        if code < 32:
            end = at + code + 1
            if end > len(data):
                raise IndexError
            output += data[at:end]
            at = end
        else:
            length, distance, at = _match(data, at, code, level)
            _copy(output, length, distance)
        if len(output) > max_bytes:
            raise MalformedError("fastlz: more than it says")
        if at >= len(data):
            return bytes(output)
        code, at = data[at], at + 1


def _match(data: bytes, at: int, code: int, level: int) -> tuple[int, int, int]:
    """Return a match's length and distance, and where the next instruction is."""
    length, high = code >> 5, (code & 0b11111) << 8
    if length == 7:
        while True:
            length += data[at]
            at += 1
            if level == 0 or data[at - 1] != 255:
                break
    low = data[at]
    at += 1
    if level == 1 and low == 255 and high == 31 << 8:
        return length + 2, _FAR + 1 + (data[at] << 8) + data[at + 1], at + 2
    return length + 2, high + low + 1, at


def _copy(output: bytearray, length: int, distance: int) -> None:
    """Repeat what is `distance` bytes back; it may overlap with what it makes."""
    start = len(output) - distance
    if start < 0:
        raise MalformedError("fastlz: a match before the beginning")
    piece = output[start : start + length]
    while len(piece) < length:
        piece += piece[: length - len(piece)]
    output += piece
