"""Which kind of thread pool serves: both are measured, in a process of its own.

ONNX Runtime's shared pool belongs to its process for good: once it is there, no session with a
pool of its own can be made. A server that only tried it could load no model with private pools
any more, so whoever tries it is a process that ends.
"""

import json
import logging
import subprocess
import sys
from pathlib import Path

from exitkit.engine import model as models
from exitkit.engine import ort, timing
from exitkit.errors import unknown
from exitkit.serve import tradeoff, warmup
from exitkit.serve.settings import Settings

logger = logging.getLogger(__name__)

AUTO = "auto"
# The shared pool spins while it waits: it has to be this much faster to be worth its cores.
WORTH = 0.95
PATIENCE_S = 300


def choose(folder: Path, settings: Settings) -> tuple[str, dict[str, float]]:
    """Return the kind that serves, and the milliseconds of one image for each that was tried.

    What the settings name is not tried. "auto" tries both and takes the shared pool where it is
    clearly faster; where the trial fails, and on other providers than "cpu", it is the private
    one.

    Raises:
        ConfigError: an unknown kind.
    """
    if settings.pool not in (AUTO, *ort.POOLS):
        raise unknown("pool", settings.pool, (AUTO, *ort.POOLS))
    if settings.pool != AUTO:
        return settings.pool, {}
    private, shared = ort.POOLS
    if settings.provider != "cpu":
        return private, {}
    told = json.dumps([str(folder), settings.threshold, settings.threads])
    try:
        done = subprocess.run(
            [sys.executable, "-m", "exitkit.serve.pools", told],
            capture_output=True, text=True, timeout=PATIENCE_S, check=True,
            start_new_session=True,  # where no Ctrl-C reaches it, which is for its parent
        )  # fmt: skip
        tried: dict[str, float] = json.loads(done.stdout)
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        said = str(getattr(error, "stderr", None) or error).strip()
        logger.warning("the thread pools were not measured, the private one serves: %s", said)
        return private, {}
    return (shared if tried[shared] < WORTH * tried[private] else private), tried


def measure(folder: Path, threshold: float | None, threads: int | None) -> dict[str, float]:
    """Return milliseconds of one image for each kind; this process has a shared pool afterwards.

    Args:
        folder: of the bundle.
        threshold: for all exits, instead of the bundle's own policy.
        threads: of the pool; all cores where None.
    """
    tried = {}
    for kind in ort.POOLS:
        model = models.load(folder, threshold, kind, threads)
        point = tradeoff.read(folder, model.manifest, model.policy).in_force
        rounds = warmup.rounds(warmup.warm(model.engine, 1))
        tried[kind] = warmup.mean_ms(timing.measure(model.engine, (1,), rounds), point)
    return tried


if __name__ == "__main__":
    place, *others = json.loads(sys.argv[1])
    sys.stdout.write(json.dumps(measure(Path(place), *others)))
