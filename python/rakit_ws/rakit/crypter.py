"""
Encrypted values of the framework: `base64(JSON {"iv", "value", "mac"})`.

AES-256-CBC with PKCS#7 padding, authenticated with HMAC-SHA-256 over the base64 texts of `iv`
and `value`. Nothing is decrypted whose MAC is not right.
"""

from __future__ import annotations

import binascii
import hmac
import re
from base64 import b64decode
from typing import TYPE_CHECKING

import msgspec

from rakit_ws.errors import ConfigError
from rakit_ws.user_options import is_key

if TYPE_CHECKING:
    from pathlib import Path

try:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
except ImportError:  # the extra `rakit` is not installed: `Crypter` says so
    HAS_CIPHERS = False
else:
    HAS_CIPHERS = True

_CIPHER_KEY_BYTES = 32
_BLOCK_BYTES = 16

# What may stand before the `return` of key.php: comments, and the framework's guard.
_KEY_FILE = re.compile(
    r"""
    \s* <\?php
    (?: \s | (?://|\#)[^\n]*\n | /\*(?:[^*]|\*(?!/))*\*/
      | defined \s* \( [^()]* \) \s* (?:or|\|\|) \s* (?:exit|die) \s* (?:\([^()]*\))? \s* ;
    )*
    \b return \s* (?P<quote>['"]) (?P<key>[^'"\\$]*) (?P=quote) \s* ;
    """,
    re.VERBOSE,
)


class _Envelope(msgspec.Struct):
    iv: str
    value: str
    mac: str


_decoder = msgspec.json.Decoder(_Envelope)


class Crypter:
    """
    Decrypts what an application with this key has encrypted.

    Raises:
        ConfigError: a key of another form, or `cryptography` is not installed.

    """

    def __init__(self, key: str) -> None:
        if not HAS_CIPHERS:
            raise ConfigError(
                'auth.sources: "rakit" needs the package cryptography: '
                "pip install 'rakit-ws[rakit]'"
            )
        if not is_key(key):
            raise ConfigError(
                "rakit.key: the value is wrong; allowed: 36 characters: hexadecimal digits in "
                "groups of 8-4-4-4-12"
            )
        # As the framework has it: OpenSSL cuts the key off, and the MAC takes all of it.
        self._mac_key = key.encode()
        self._cipher = algorithms.AES(self._mac_key[:_CIPHER_KEY_BYTES])

    def decrypt(self, encrypted: bytes) -> bytes | None:
        """Return the plaintext; None for what was not encrypted with this key, or not whole."""
        try:
            envelope = _decoder.decode(b64decode(encrypted, validate=True))
            signed = (envelope.iv + envelope.value).encode()
            mac = envelope.mac.encode()
        # RecursionError: further keys may nest as deep as the header is long.
        except (binascii.Error, msgspec.MsgspecError, UnicodeError, RecursionError):
            return None
        expected = hmac.digest(self._mac_key, signed, "sha256").hex().encode()
        if not hmac.compare_digest(mac, expected):
            return None
        return self._decrypt_authentic(envelope)

    def _decrypt_authentic(self, envelope: _Envelope) -> bytes | None:
        try:
            iv = b64decode(envelope.iv, validate=True)
            ciphertext = b64decode(envelope.value, validate=True)
        except (binascii.Error, ValueError):
            return None
        if len(iv) != _BLOCK_BYTES or not ciphertext or len(ciphertext) % _BLOCK_BYTES:
            return None
        decryptor = Cipher(self._cipher, modes.CBC(iv)).decryptor()
        return _without_padding(decryptor.update(ciphertext) + decryptor.finalize())


def _without_padding(padded: bytes) -> bytes | None:
    """Take off the padding of PKCS#7 (RFC 5652 §6.3); None if it is none."""
    count = padded[-1]
    if not 1 <= count <= _BLOCK_BYTES or padded[-count:] != bytes([count]) * count:
        return None
    return padded[:-count]


def key_in(path: Path) -> str:
    """
    Read an application's key from its `key.php`. Nothing is executed.

    Raises:
        ConfigError: the file can't be read, or has no key that is written out.

    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as fault:
        reason = getattr(fault, "strerror", None) or "not UTF-8"
        raise ConfigError(f"rakit.key_file: {path}: can't be read: {reason}") from None
    match = _KEY_FILE.match(text)
    if match is None or not is_key(match["key"]):
        raise ConfigError(
            f"rakit.key_file: {path}: no `return '…';` with a key; set rakit.key instead"
        )
    return match["key"]
