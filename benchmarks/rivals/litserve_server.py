"""LitServe with batching, as its documentation shows it for such a load.

    python -m rivals.litserve_server BUNDLE PORT

Images come as base64 text in JSON, the batch is joined with `batch` and parted with `unbatch`,
the fast queue (ZeroMQ) is on, and a batch waits for company for at most a millisecond.
"""

import base64
import sys
from pathlib import Path

import litserve
import numpy as np
from numpy.typing import NDArray

from rivals.whole import Whole

BATCH, WAIT_S = 32, 0.001


class Api(litserve.LitAPI):
    """Answers image files with the whole network."""

    def __init__(self, folder: Path) -> None:
        super().__init__(max_batch_size=BATCH, batch_timeout=WAIT_S)
        self._folder = folder

    def setup(self, device: str) -> None:
        """Load the network, in the worker's process."""
        self._network = Whole(self._folder)

    def decode_request(self, request: dict[str, str]) -> NDArray[np.float32]:  # type: ignore[override]
        """Return one image as [1, 3, H, W]."""
        return self._network.decode(base64.b64decode(request["image"]))

    def batch(self, inputs: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Join images."""
        return np.concatenate(inputs)

    def predict(self, x: NDArray[np.float32]) -> list[str]:
        """Answer a batch."""
        return self._network.labels(x)

    def unbatch(self, output: list[str]) -> list[str]:
        """Part the answers."""
        return output

    def encode_response(self, output: str) -> dict[str, str]:
        """Return the answer's JSON."""
        return {"label": output}


if __name__ == "__main__":
    server = litserve.LitServer(Api(Path(sys.argv[1])), accelerator="cpu", fast_queue=True)
    server.run(
        host="127.0.0.1", port=int(sys.argv[2]), num_api_servers=1, log_level="warning",
        generate_client_file=False, access_log=False,
    )  # fmt: skip
