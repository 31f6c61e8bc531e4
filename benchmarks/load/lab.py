"""One network under test: its bundles and pictures, the jobs for load and engine, its servers."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exitkit.bundle import SWEEP, Manifest, read_manifest
from exitkit.policy.solvers import Point
from load import pictures, place
from load.place import Server

SEED, BATCH = 0, 32
EXITKIT = ("-c", "from exitkit.cli.main import main; main()")
APART = ("-m", "rivals.apart")
READY, HEALTH = "/v2/health/ready", "/health"


@dataclass(frozen=True)
class Target:
    """What serves: a bundle at a threshold.

    Attributes:
        name: of the bundle, which clients know it by.
        threshold: for all exits; None: there is one exit.
        point: in words.
    """

    name: str
    threshold: float | None
    point: str


class Lab:
    """Everything about one network.

    Args:
        bundles: folder with NAME, all exits, and NAME-plain, the deepest alone.
        name: of the network.
        work: folder for jobs, answers and logs.
        cifar100: folder with the data set's test images or zip files.
    """

    def __init__(self, bundles: Path, name: str, work: Path, cifar100: Path) -> None:
        self.name, self.bundles, self.work = name, bundles, work / name
        self.manifest: Manifest = read_manifest(bundles / name)
        self.server_cores, self.load_cores = place.halves()
        self.whole = Target(f"{name}-plain", None, "whole network")
        self.pictures = self.work / "pictures"
        if not self.pictures.exists():
            digits = set(self.manifest.classes) == set("0123456789")
            found = pictures.digits(work) if digits else pictures.cifar100(cifar100)
            pictures.write(self.pictures, found, bundles / name)
        self.answers: dict[str, Any] = {}
        self.tries, self.patience_s = 1, 20.0
        self._servers: list[Server] = []

    def points(self) -> list[Point]:
        """Return the bundle's sweep on the tune split."""
        table = json.loads((self.bundles / self.name / SWEEP).read_text())
        return [Point(**row) for row in table["points"]]

    def prepare(self, targets: Sequence[Target]) -> None:
        """Answer all pictures offline at every threshold; keep what answers to expect."""
        for name in dict.fromkeys(target.name for target in targets):
            mine = [target for target in targets if target.name == name]
            job = {"thresholds": [target.threshold for target in mine], **self._of(mine[0])}
            found = self.bare("prepare", job)
            for target, answer in zip(mine, found["of"], strict=True):
                self.answers[target.point] = answer
                table = {key: answer[key] for key in ("labels", "exits")}
                self._expected(target).write_text(json.dumps({**table, "truth": found["truth"]}))

    def exits_taken(self, target: Target) -> list[int]:
        """Return the number of the exit that answers each picture."""
        found: list[int] = json.loads(self._expected(target).read_text())["exits"]
        return found

    def serve(self, target: Target, how: Sequence[str] = EXITKIT) -> Server:
        """Return our server of a target, to be entered; `how` starts its command line."""
        command = [sys.executable, *how, "serve", str(self.bundles / target.name)]
        command += ["--port", "{port}", "--grpc-port", "0", "--threads", "1"]
        if target.threshold is not None:
            command += ["--threshold", repr(target.threshold)]
        return self._server(command, READY, f"{target.name}.log")

    def rival(self, module: str) -> Server:
        """Return a rival's server of the whole network, to be entered."""
        command = [sys.executable, "-m", f"rivals.{module}"]
        command += [str(self.bundles / self.whole.name), "{port}"]
        return self._server(command, HEALTH, f"{module}.log")

    def _server(self, command: Sequence[str], ready: str, log: str) -> Server:
        server = Server(command, self.server_cores, ready, self.work / log)
        self._servers.append(server)
        return server

    def load(self, server: Server, target: Target, **job: Any) -> dict[str, Any]:
        """Load a server; see `python -m load` for a job and what comes back.

        Adds `cpu_ms`, the server's processor time an image, and `cpu`, its share of a core while
        it was loaded.
        """
        path = self.work / "job.json"
        asked = {"kind": "tensor", "images": 1, "seed": SEED, "warm": 0.5, **job}
        asked |= {"url": server.url, "model": target.name, "expected": str(self._expected(target))}
        path.write_text(json.dumps({**asked, **self._of(target)}))
        with self._alone(server):
            return self._undisturbed(lambda: self._load(server, path), server)

    @contextlib.contextmanager
    def _alone(self, server: Server) -> Iterator[None]:
        """Let no other server run: some look for work all the time that they have none."""
        with contextlib.ExitStack() as stack:
            for other in self._servers:
                if other is not server and other.runs:
                    stack.enter_context(other.resting())
            yield

    def _load(self, server: Server, path: Path) -> dict[str, Any]:
        before = server.cpu_s()
        found: dict[str, Any] = json.loads(place.ask(["-m", "load", path], self.load_cores))
        spent = server.cpu_s() - before
        return {**found, "cpu_ms": spent * 1e3 / max(1, found["answered"] + found["warmed"])}

    def _undisturbed(
        self, measure: Callable[[], dict[str, Any]], *servers: Server
    ) -> dict[str, Any]:
        """Measure, and again where other programs were busy meanwhile; keep the quietest try.

        What was measured has no say in that. Adds `others`, the cores that they used.
        """
        tries: list[dict[str, Any]] = []
        while len(tries) < self.tries and not any(t["others"] < place.DISTURBED for t in tries):
            if self.tries > 1:
                place.wait_for_quiet(self.patience_s)
            with place.Others(*servers) as others:
                found = measure()
            tries.append({**found, "others": others.cores})
        return min(tries, key=lambda one: one["others"])

    def speed(self, target: Target, seconds: float, batch: int = BATCH) -> dict[str, Any]:
        """Time the engine alone on a core like the server's."""
        job = {"threshold": target.threshold, "batch": batch, "seconds": seconds, "seed": SEED}
        return self._undisturbed(lambda: self.bare("speed", {**job, **self._of(target)}))

    def bare(self, verb: str, job: dict[str, Any]) -> dict[str, Any]:
        """Run a verb of `load.bare` on the server's core."""
        path = self.work / f"{verb}.json"
        path.write_text(json.dumps(job))
        text = place.ask(["-m", "load.bare", verb, path], self.server_cores)
        found: dict[str, Any] = json.loads(text)
        return found

    def _of(self, target: Target) -> dict[str, Any]:
        return {"bundle": str(self.bundles / target.name), "pictures": str(self.pictures)}

    def _expected(self, target: Target) -> Path:
        return self.work / f"expected-{target.point.replace(' ', '-')}.json"
