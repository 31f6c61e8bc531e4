"""Everything that one server is told, in one record."""

from dataclasses import dataclass, field
from pathlib import Path

from exitkit.errors import ConfigError, unknown
from exitkit.serve.limits import Limits
from exitkit.serve.replicas import Replicas

HOST, PORT = "127.0.0.1", 8000
LAST_PORT = 65535
LOGS = ("quiet", "text", "json")


@dataclass(frozen=True)
class Settings:
    """What a server is told; a process and its workers are given the same.

    Attributes:
        bundles: folders of the bundles that are loaded first; the first of them answers where a
            request names no model.
        host: address to listen on.
        port: of HTTP; 0 takes a free one.
        grpc_port: of gRPC; 0 takes a free one; None: no gRPC.
        threshold: confidence 0..1 for all exits, instead of each bundle's own policy.
        accuracy_floor: accuracy 0..1 down to which thresholds may sink under load; None: they
            stay.
        provider: what computes, see exitkit.engine.backends.
        pool: of threads: "private", "shared", or "auto", which measures both.
        threads: of the pool; all cores where None.
        limits: what it takes in at most.
        token: that every request must bring; None: everybody is welcome.
        certificate, key: PEM files for TLS; None: plain HTTP.
        workers: processes that answer.
        replicas: on Ray Serve; None: without Ray.
        log: "text" or "json" for a line of each request; "quiet" for warnings and errors alone.
    """

    bundles: tuple[Path, ...]
    host: str = HOST
    port: int = PORT
    grpc_port: int | None = None
    threshold: float | None = None
    accuracy_floor: float | None = None
    provider: str = "cpu"
    pool: str = "auto"
    threads: int | None = None
    limits: Limits = field(default_factory=Limits)
    token: str | None = field(default=None, repr=False)
    certificate: Path | None = None
    key: Path | None = None
    workers: int = 1
    replicas: Replicas | None = None
    log: str = "quiet"

    def __post_init__(self) -> None:
        for port in (self.port, 0 if self.grpc_port is None else self.grpc_port):
            if not 0 <= port <= LAST_PORT:
                raise ConfigError(
                    f"port {port}", "no such port", f"choose one from 0 to {LAST_PORT}"
                )
        for name in ("threshold", "accuracy_floor"):
            share = getattr(self, name)
            if share is not None and not 0 <= share <= 1:  # true for NaN too
                raise ConfigError(
                    f"{name.replace('_', ' ')} {share}", "is not from 0 to 1", "give, say, 0.9"
                )
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            raise ConfigError(
                "a token", "it holds letters that a header cannot carry", "use letters and digits"
            )
        if self.token is not None and (not self.token or " " in self.token):
            raise ConfigError("a token", "it is empty or holds a space", "leave it out, or set one")
        if (self.certificate is None) != (self.key is None):
            raise ConfigError(
                "TLS", "a certificate without its key, or a key alone", "give both, or none"
            )
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"{self.threads} threads", "nothing would compute", "give 1 or more")
        if self.workers < 1:
            raise ConfigError(f"{self.workers} workers", "nobody would answer", "give 1 or more")
        if self.replicas is not None and (self.workers > 1 or self.grpc_port is not None):
            raise ConfigError(
                "a server on Ray",
                "workers or a port of gRPC stand beside it",
                "leave them out: there are replicas instead of workers, and HTTP alone",
            )
        if self.log not in LOGS:
            raise unknown("log", self.log, LOGS)
