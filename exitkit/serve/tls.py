"""The certificate of a server that speaks HTTPS."""

import ssl

from exitkit.errors import ConfigError
from exitkit.serve.settings import Settings


def read(settings: Settings) -> ssl.SSLContext | None:
    """Read the certificate of a server and its key, for TLS 1.2 and later; None where it has none.

    Raises:
        ConfigError: a file cannot be read, or the two do not belong together.
    """
    if settings.certificate is None or settings.key is None:
        return None
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.set_alpn_protocols(["http/1.1"])
    try:
        # Without a password here OpenSSL would ask the terminal for one.
        made.load_cert_chain(settings.certificate, settings.key, password="")
    except (OSError, ValueError) as error:  # ssl's errors among them
        found = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise ConfigError(
            f"certificate {settings.certificate} with key {settings.key}",
            f"cannot be used ({found})",
            "give the PEM files of a certificate and of its key, which has no pass phrase",
        ) from error
    return made
