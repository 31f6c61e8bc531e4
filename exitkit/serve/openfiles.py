"""How many files and connections the system lets a server open."""

from exitkit.errors import ConfigError
from exitkit.serve.limits import Limits

# Of a form's parts, those above a megabyte lie in files of their own.
PART_BYTES = 2**20
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
    needed = 2 * limits.connections + limits.bodies_bytes // PART_BYTES + OTHERS  # HTTP and gRPC
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if now == resource.RLIM_INFINITY or now >= needed:
        return
    if most not in (resource.RLIM_INFINITY, -1) and most < needed:
        raise ConfigError(
            f"{limits.connections} connections and bodies of {limits.bodies_bytes} bytes",
            f"they may need {needed} open files, the system allows {most}",
            "raise ulimit -n, or lower --limit connections and bodies_bytes",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, most))
