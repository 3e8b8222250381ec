"""The certificate of a server: read from its files, and shown in the log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rakit_ws._core import TlsIdentity
from rakit_ws.log import log

if TYPE_CHECKING:
    from rakit_ws.config import Tls

# A certificate whose end is nearer than that was not renewed: certbot does so 30 days before.
EXPIRY_WARNING_S = 14 * 86_400


def read_identity(tls: Tls) -> TlsIdentity | None:
    """
    Read certificate and key; None where TLS is off.

    Raises:
        ConfigError: they cannot be used; names the file and what is wrong with it.

    """
    return TlsIdentity(tls.certificate, tls.key) if tls.is_on else None


def tell_of(identity: TlsIdentity | None, tls: Tls) -> None:
    """Log which certificate is shown from now on, and until when it is valid."""
    if identity is None:
        return
    expires = time.strftime("%Y-%m-%d", time.gmtime(identity.not_after))
    log.info("certificate", file=tls.certificate, expires=expires)
    if identity.not_after - time.time() < EXPIRY_WARNING_S:
        log.warning("certificate expires soon", file=tls.certificate, expires=expires)
