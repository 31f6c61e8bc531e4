"""`exitkit serve --ray`: the same application as a Ray Serve deployment.

Ray brings the proxies that take requests, the processes that answer (replicas), their places on
the nodes of a cluster, health checks, replacement and scaling. A replica is the application of
`web.app.create` around models of its own. Ray holds no request back, so queues, batches,
deadlines and 429 are the scheduler's, as in a server without Ray.
"""

import contextlib
import dataclasses
import json
import logging
import os
import signal
import ssl
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import ray
from ray import serve

from exitkit import bundle, machine
from exitkit.errors import ConfigError, EngineError
from exitkit.serve import deployment, pools, ports, scratch, tls
from exitkit.serve.access import Access
from exitkit.serve.process import Echo
from exitkit.serve.replicas import Replicas
from exitkit.serve.settings import Settings

logger = logging.getLogger(__name__)

NAME = "exitkit"
# As RAY_ADDRESS has it: a cluster of our own, which ends with us.
LOCAL = "local"
# A replica computes on one core unless told otherwise: more cores are more replicas.
THREADS = 1


def run(settings: Settings, echo: Echo = logger.info) -> None:
    """Serve bundles on Ray until SIGINT or SIGTERM; then finish what was accepted and return.

    The cluster is that of the environment variable RAY_ADDRESS, else one on this machine that
    ends with this call.

    Args:
        settings: what it is told; `replicas` is not None.
        echo: told the operating point and the address, line by line.

    Raises:
        ConfigError: the port is in use, the machine has too few cores, or Ray Serve on the
            cluster is used otherwise.
        BundleError: no bundle, or a damaged one.
        EngineError: a replica did not start.
    """
    scale = settings.replicas
    assert scale is not None
    settings = _placed(settings)
    tls.read(settings)  # each of these says here what is wrong, and not in some replica's log
    for folder in settings.bundles:
        bundle.read_manifest(folder)
    warning = Access(settings).warning()
    if warning is not None:
        echo(warning)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    address = os.environ.get("RAY_ADDRESS") or LOCAL
    cluster = _own_cluster(settings, scale) if address == LOCAL else _other_cluster(address)
    with cluster as counts, _interrupted_by_signals():
        started, url = _listen(settings)
        try:
            with contextlib.suppress(KeyboardInterrupt):
                _deploy(settings, scale, counts, echo)
                if not started:
                    _require_route(url)
                echo(f"ready: {url}  (docs at /docs, Ctrl-C stops)")
                while True:
                    signal.pause()
        finally:
            _leave(everything=started and counts is None)
    echo("stopped")


def _placed(settings: Settings) -> Settings:
    """Settle what a process alone would settle for itself."""
    return dataclasses.replace(
        settings,
        bundles=tuple(folder.resolve() for folder in settings.bundles),
        certificate=settings.certificate and settings.certificate.resolve(),
        key=settings.key and settings.key.resolve(),
        threads=settings.threads or THREADS,
        # The other kind's threads spin between their runs, at the expense of other replicas.
        pool="private" if settings.pool == pools.AUTO else settings.pool,
    )


@contextlib.contextmanager
def _own_cluster(settings: Settings, scale: Replicas) -> Iterator[Path]:
    """Run a cluster on this machine while the block runs; yield a folder that all replicas see.

    Raises:
        ConfigError: more cores would be needed than there are; replicas would wait for ever.
    """
    cores, needed = machine.cores(), scale.most * (settings.threads or THREADS)
    if needed > cores:
        raise ConfigError(
            f"{scale}, threads of each: {settings.threads}",
            f"that takes {needed} cores, this machine has {cores}",
            "take fewer, or a cluster (RAY_ADDRESS)",
        )
    # Ray reads it from the environment alone: nothing is told to its makers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with scratch.folder() as folder:
        # Its own pages and their API would be one more thing to attack.
        ray.init(LOCAL, num_cpus=cores, include_dashboard=False, logging_level=logging.WARNING)
        try:
            yield folder
        finally:
            ray.shutdown()


@contextlib.contextmanager
def _other_cluster(address: str) -> Iterator[None]:
    """Be on a cluster that runs already while the block runs.

    Raises:
        ConfigError: it is not there, does not let us in, or has another version of Ray or Python.
    """
    try:
        ray.init(address, logging_level=logging.WARNING)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise ConfigError(
            f"RAY_ADDRESS={address}", f"no cluster to use ({error})", "name another, or unset it"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGINT and on the first SIGTERM, which Ray would die of."""
    caught = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal caught
        if number == signal.SIGINT or not caught:
            caught = True
            raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listen(settings: Settings) -> tuple[bool, str]:
    """Start Ray's proxies where there are none; return whether that was so, and their URL."""
    status = serve.status()
    if NAME in status.applications:
        raise ConfigError(
            f"application {NAME!r} on Ray", "there is one", "stop its server, or: serve shutdown"
        )
    scheme = "http" if settings.certificate is None else "https"
    if status.proxies:
        return False, f"{scheme}://{settings.host}:{settings.port}"
    with ports.listen(settings.host, settings.port) as taken:
        port, url = taken.getsockname()[1], f"{scheme}://{ports.place(taken)}"
    options: dict[str, Any] = {"host": settings.host, "port": port}
    if settings.certificate is not None:
        options |= {"ssl_certfile": str(settings.certificate), "ssl_keyfile": str(settings.key)}
    serve.start(http_options=options, logging_config=deployment.LOGGING)
    return True, url


def _deploy(settings: Settings, scale: Replicas, counts: Path | None, echo: Echo) -> None:
    """Start the replicas, wait for them, and say what they are."""
    try:
        handle = serve.run(deployment.application(settings, scale, counts), name=NAME)
    except RuntimeError as error:
        found = serve.status().applications[NAME]
        texts = [error.args[0], *(part.message for part in found.deployments.values())]
        why = next(text for text in reversed(texts) if text).strip().splitlines()[-1]
        raise EngineError("a replica", f"did not start ({why})", "see its log") from error
    for line in handle.lines.remote().result():
        echo(line)
    echo(f"on Ray: {scale}, threads of each: {settings.threads}")


def _require_route(url: str) -> None:
    """Refuse proxies that somebody else started to listen elsewhere."""
    unchecked = ssl.create_default_context()
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    try:
        with urllib.request.urlopen(f"{url}/-/routes", timeout=10, context=unchecked) as answer:
            found = json.load(answer)
        here = found.get("/") == NAME
    except (OSError, ValueError, AttributeError) as error:
        found, here = error, False
    if not here:
        raise ConfigError(
            f"address {url}",
            f"Ray Serve runs on this cluster already, and this server is not there ({found})",
            "give the --host and --port that Ray Serve was started with",
        )


def _leave(everything: bool) -> None:
    """Let the replicas finish and end; end Ray Serve as well if it is ours and nobody else's."""
    while NAME in serve.status().applications:
        with contextlib.suppress(TimeoutError):
            serve.delete(NAME)
    if everything and not serve.status().applications:
        serve.shutdown()
