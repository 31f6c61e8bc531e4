"""One server as Ray Serve runs it: what happens in the process of each replica."""

import dataclasses
import secrets
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from ray import serve

import exitkit
from exitkit import bundle
from exitkit.atomic import sha256
from exitkit.errors import BundleError, ConfigError
from exitkit.serve import logs, shelf, warmup
from exitkit.serve.models import Models
from exitkit.serve.replicas import Replicas
from exitkit.serve.scheduling.scheduler import LAST_RUN_S
from exitkit.serve.settings import Settings
from exitkit.serve.web import app, watch
from exitkit.serve.web.bodies import Application, Message, Receive, Send

# How soon a dead replica is noticed and replaced, at the latest.
HEALTH_S = 2.0
# How often a replica that stops looks whether all its requests are answered.
LOOK_S = 0.1
# Of Ray Serve's own logs; exitkit's are what `Settings.log` says.
LOGGING = {"enable_access_log": False, "log_level": "WARNING"}


class Replica:
    """What Ray calls beside the application, in the process of one replica."""

    app: FastAPI  # Ray's wrapper of this class has it

    def check_health(self) -> None:
        """Raise when Ray has to replace this replica."""
        models: Models = self.app.state.models
        if not (models.ready or models.draining):
            raise RuntimeError("not all models are ready; the replica's log says why")

    def lines(self) -> list[str]:
        """Say what this replica serves, and what it measured."""
        models: Models = self.app.state.models
        return [line for name in models.names for line in warmup.describe(models.get(name))]


class Unnamed:
    """ASGI layer that takes the request's id off responses: Ray's proxies put the same on them."""

    def __init__(self, app: Application) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection scope."""

        async def shortened(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [(name, value) for name, value in message["headers"] if name != watch.NAME]
                message = {**message, "headers": kept}
            await send(message)

        await self.app(scope, receive, shortened)


@dataclasses.dataclass(frozen=True)
class Identity:
    """What must be the same on every node, lest replicas answer differently.

    Attributes:
        version: of exitkit.
        bundles: of each bundle, by its folder, the digests of manifest and policy; the manifest
            holds those of all other files.
    """

    version: str
    bundles: dict[str, str]

    @classmethod
    def here(cls, folders: tuple[Path, ...]) -> "Identity":
        """Return what it is on this node.

        Raises:
            BundleError: a bundle cannot be read here.
        """
        return cls(exitkit.__version__, {str(folder): _digests(folder) for folder in folders})

    def require(self, folders: tuple[Path, ...]) -> None:
        """Refuse a node on which it is not the same.

        Raises:
            BundleError: a bundle is not here, or is another one.
            ConfigError: another version of exitkit.
        """
        found = Identity.here(folders)
        if found.version != self.version:
            raise ConfigError(
                f"exitkit {self.version}", f"this node has {found.version}", "install the same"
            )
        for folder, digests in self.bundles.items():
            if found.bundles[folder] != digests:
                raise BundleError(
                    folder, "is not the bundle that the server was started with",
                    "put the same one on every node, and start the server again",
                )  # fmt: skip


def _digests(folder: Path) -> str:
    try:
        return " ".join(sha256(folder / name) for name in (bundle.MANIFEST, bundle.POLICY))
    except OSError as error:
        raise BundleError(
            str(folder), f"cannot be read on this node ({error})", "put it there, too"
        ) from error


def application(settings: Settings, scale: Replicas, counts: Path | None) -> serve.Application:
    """Return the server as Ray Serve runs it.

    Args:
        settings: of the server, its bundles with absolute paths; each replica is told the same.
        scale: how many replicas there are.
        counts: folder that they share for what they count; None: each counts for itself.
    """
    identity = Identity.here(settings.bundles)

    def build() -> FastAPI:
        logs.set_up(settings.log)
        identity.require(settings.bundles)
        file = None if counts is None else counts / f"{secrets.token_hex(8)}.json"
        models = shelf.collect(settings, file)
        models.start()
        made = app.create(models, settings)
        made.add_middleware(Unnamed)
        return made

    number: dict[str, Any] = {"num_replicas": scale.least}
    if not scale.fixed:
        bounds = {"min_replicas": scale.least, "max_replicas": scale.most}
        number = {"autoscaling_config": {**bounds, "target_ongoing_requests": scale.requests}}
    deployment = serve.deployment(
        name="server",
        ray_actor_options={
            "num_cpus": settings.threads,
            "num_gpus": int(settings.provider != "cpu"),
        },
        # Above what the queue holds: a replica refuses what is too much, with its own
        # Retry-After. What waits in a proxy has no bound, and no deadline.
        max_ongoing_requests=2 * settings.limits.queue,
        graceful_shutdown_timeout_s=settings.limits.drain_s + LAST_RUN_S,
        graceful_shutdown_wait_loop_s=LOOK_S,
        health_check_period_s=HEALTH_S,
        logging_config=LOGGING,
        **number,
    )
    return deployment(serve.ingress(build)(Replica)).bind()
