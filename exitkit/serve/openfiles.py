"""How many files and connections the system lets a server open."""

from exitkit.errors import ConfigError
from exitkit.serve.limits import Limits

# Standard streams, sockets, event loops, what libraries keep open.
OTHERS = 256


def allow(limits: Limits) -> None:
    """Let this process, and those that it starts, open as many as the limits may need.

    Systems begin with a low number that a process may raise up to another one.

    Raises:
        ConfigError: the system does not allow that many.
    """
    try:
        import resource
    except ModuleNotFoundError:  # Windows knows no such bound
        return
    needed = 2 * limits.connections + OTHERS  # HTTP and gRPC
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if now == resource.RLIM_INFINITY or now >= needed:
        return
    if most not in (resource.RLIM_INFINITY, -1) and most < needed:
        raise ConfigError(
            f"{limits.connections} connections",
            f"they may need {needed} open files, the system allows {most}",
            "raise ulimit -n, or lower --limit connections",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, most))
