"""Who may ask a server, and who may load and unload its models; no transport inside."""

import hmac
import ipaddress
import socket

from exitkit.errors import ConfigError, RequestError
from exitkit.serve.settings import Settings

SCHEME = "bearer"


class Unauthorized(RequestError):
    """The request brought no token, or another one."""

    status = 401


class Forbidden(RequestError):
    """The request is one that this server takes from nobody, or not from this sender."""

    status = 403


class Access:
    """What the settings of a server allow.

    Args:
        settings: of the server.
    """

    def __init__(self, settings: Settings) -> None:
        self._token = None if settings.token is None else settings.token.encode()
        self._workers, self._replicas = settings.workers, settings.replicas
        self.host = settings.host
        # Whoever reaches a loopback address is on this machine already.
        self.exposed = self._token is None and not is_loopback(settings.host)

    @property
    def guarded(self) -> bool:
        """Whether requests must bring a token."""
        return self._token is not None

    def admit(self, authorization: str | None) -> None:
        """Let a request pass that brought the token.

        Args:
            authorization: the value of its Authorization header, None where there is none.

        Raises:
            Unauthorized: no token, or another one.
        """
        if self._token is None:
            return
        scheme, _, given = (authorization or "").partition(" ")
        if scheme.lower() != SCHEME:
            raise Unauthorized(
                "a request", "it brings no token", "send the header Authorization: Bearer TOKEN"
            )
        if not hmac.compare_digest(given.strip().encode(), self._token):
            raise Unauthorized("a request", "its token is another one", "send the server's token")

    def control(self) -> None:
        """Let a request pass that loads or unloads a model.

        Raises:
            Forbidden: anybody on the network could send it, or it would reach one worker
                or one replica only.
        """
        if self.exposed:
            raise Forbidden(
                "loading and unloading models",
                f"the server listens on {self.host} and has no token",
                "start it with a token, or on 127.0.0.1",
            )
        if self._workers > 1:
            raise Forbidden(
                "loading and unloading models",
                f"the request reached one of {self._workers} workers, the others would not know",
                "send SIGHUP to the server, which reloads all, or start it with one worker",
            )
        if self._replicas is not None:
            raise Forbidden(
                "loading and unloading models",
                "the request reached one replica on Ray, the others would not know",
                "start the server again with other bundles",
            )

    def warning(self) -> str | None:
        """Return what a starting server has to say about who can reach it."""
        if not self.exposed:
            return None
        return (
            f"warning: everybody who reaches {self.host} can use this server; set a token "
            "(exitkit serve --help), or listen on 127.0.0.1"
        )


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server that listens on `host`.

    Raises:
        ConfigError: the host is unknown.
    """
    try:
        found = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise ConfigError(f"host {host!r}", f"is unknown ({error})", "use 127.0.0.1") from error
    return all(ipaddress.ip_address(str(row[4][0]).partition("%")[0]).is_loopback for row in found)
