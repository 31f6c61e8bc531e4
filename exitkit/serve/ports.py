"""Ports of a server, taken before a model is loaded: a second server learns at once."""

import contextlib
import errno
import socket
from collections.abc import Iterator

from exitkit.errors import ConfigError

BACKLOG = 2048


@contextlib.contextmanager
def listen(host: str, port: int, option: str = "--port") -> Iterator[socket.socket]:
    """Take a port; clients that come before somebody answers there wait.

    Raises:
        ConfigError: the port is in use or not allowed, or the host is unknown.
    """
    asked = f"address {host}:{port}"
    try:
        family, kind, protocol, _, found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:  # the latter: no name at all
        why = getattr(error, "strerror", error)
        raise ConfigError(asked, f"unknown host ({why})", "use 127.0.0.1") from error
    with socket.socket(family, kind, protocol) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(found)
            taken.listen(BACKLOG)
        except OSError as error:
            raise _refused(asked, error, option) from error
        yield taken


@contextlib.contextmanager
def reserve(host: str, port: int) -> Iterator[socket.socket]:
    """Hold a port for gRPC, which opens its sockets by itself, in one process or in several.

    Nothing else can have the port meanwhile, but what shares ports on purpose, as gRPC does here.

    Raises:
        ConfigError: as `listen`, or this system cannot share a port.
    """
    if not hasattr(socket, "SO_REUSEPORT"):
        raise ConfigError("gRPC", "this system cannot hold a port for it", "serve without it")
    # Refused where somebody listens, also where that one would share the port.
    with listen(host, port, "--grpc-port") as probe:
        found, family = probe.getsockname(), probe.family
    with socket.socket(family, socket.SOCK_STREAM) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            held.bind(found)
        except OSError as error:
            raise _refused(f"address {host}:{port}", error, "--grpc-port") from error
        yield held


def place(taken: socket.socket) -> str:
    """Return where a socket is, as host:port."""
    host, port = taken.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _refused(asked: str, error: OSError, option: str) -> ConfigError:
    in_use = error.errno == errno.EADDRINUSE
    found = f"port {asked.rpartition(':')[2]} is in use" if in_use else str(error.strerror)
    return ConfigError(asked, found, f"choose another {option}, or {option} 0")
