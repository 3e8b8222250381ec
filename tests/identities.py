"""Certificates and keys for tests of TLS, made when they are needed and written where asked."""

from __future__ import annotations

import datetime
import ssl
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Identity:
    """The files of a server, and what a client must trust to believe them."""

    certificate: Path
    key: Path
    root: str
    root_file: Path
    serial: int

    @property
    def settings(self):
        """The table `[tls]`."""
        return {"certificate": str(self.certificate), "key": str(self.key)}

    def context(self):
        """What a client connects with: it trusts our root, and checks the name."""
        context = ssl.create_default_context(cadata=self.root)
        context.check_hostname = True
        return context


class Authority:
    """A root, and an intermediate that it signed: what servers show is a chain."""

    def __init__(self):
        self._root_key = ec.generate_private_key(ec.SECP256R1())
        self._root = _certificate("root", self._root_key, "root", self._root_key, is_authority=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._intermediate = _certificate(
            "intermediate", self._key, "root", self._root_key, is_authority=True
        )

    def issue(
        self, directory, *, name="server", since=-DAY, until=90 * DAY, key=None, passphrase=b""
    ):
        """Make an identity for localhost, in force from `since` to `until`, counted from now."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate(
            "localhost", key, "intermediate", self._key, since=since, until=until
        )
        paths = directory / f"{name}.crt", directory / f"{name}.key"
        chain = (certificate, self._intermediate)
        paths[0].write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in chain))
        encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
        paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
        root = self._root.public_bytes(Encoding.PEM)
        root_file = directory / "root.crt"
        root_file.write_bytes(root)
        return Identity(*paths, root.decode(), root_file, certificate.serial_number)


@cache
def authority():
    """Return the one that all tests share."""
    return Authority()


def rsa_key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def traditional_encrypted(key, passphrase):
    """Return a key in the form of old OpenSSL, whose encryption a header tells of."""
    return key.private_bytes(
        Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(passphrase)
    )


def traditional(key):
    """Return a key as "EC PRIVATE KEY" or "RSA PRIVATE KEY"."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def _certificate(
    subject, key, issuer, issuer_key, *, since=-DAY, until=90 * DAY, is_authority=False
):
    now = datetime.datetime.now(datetime.timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + since)
        .not_valid_after(now + until)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()),
            critical=False,
        )
        .add_extension(_usage(is_authority=is_authority), critical=True)
    )
    if not is_authority:
        names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _usage(*, is_authority):
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
