"""What one server takes in at most."""

import math
from dataclasses import dataclass

from exitkit.errors import ConfigError
from exitkit.images import MAX_PIXELS


@dataclass(frozen=True)
class Limits:
    """Bounds of one server process.

    Attributes:
        connections: of HTTP that are open at the same time.
        head_bytes: of one request's first line and headers.
        head_s: seconds in which they have to come.
        body_bytes: of one request.
        bodies_bytes: of all requests that are being read or answered.
        stall_s: seconds that a client may keep the server waiting for the rest of a body, or not
            read its answer; a long body may take longer (see web/bodies.py).
        pixels: of one image file, read from its header before it is decoded.
        samples: images of one request.
        batch: images that one run of one stage takes.
        queue: images that wait at all stages together; more are refused with 429.
        models: loaded at the same time.
        drain_s: seconds that a stopping server gives to what it has accepted.
    """

    connections: int = 1024
    head_bytes: int = 32 * 2**10
    head_s: float = 20.0
    body_bytes: int = 64 * 2**20
    bodies_bytes: int = 512 * 2**20
    stall_s: float = 30.0
    pixels: int = MAX_PIXELS
    samples: int = 256
    batch: int = 32
    queue: int = 1024
    models: int = 8
    drain_s: float = 30.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise ConfigError(f"limit {name}={value}", "is not above zero", "give a larger one")
            if not math.isfinite(value):
                raise ConfigError(f"limit {name}={value}", "is no bound", "give a number")
        if self.body_bytes > self.bodies_bytes:
            raise ConfigError(
                f"bodies of {self.body_bytes} bytes",
                f"all together may have {self.bodies_bytes}",
                "raise bodies_bytes or lower body_bytes",
            )
        if self.samples > self.queue:
            raise ConfigError(
                f"{self.samples} images a request",
                f"the queue holds {self.queue}, such a request would never fit",
                "raise the queue or lower the images a request",
            )
