"""CUDA graphs: all kernels of a segment, at one size of batch, launched at once.

A GPU waits for the many small kernels of an early-exit network to be launched; a graph launches
them together. It computes one size of batch, and reads and writes where it did when it was
captured.
"""

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

Outputs = tuple[Tensor, ...]

# Runs before a capture: cuDNN tries its algorithms, and libraries make what they keep.
WARM_UP = 3
# A process can capture one graph at a time, and no other of its threads may use the GPU then.
_ALONE = threading.Lock()


class Place(Protocol):
    """Where segments compute, and how a segment of one size of batch is run again and again."""

    device: torch.device

    def working(self) -> AbstractContextManager[None]:
        """Return the context in which everything on the device happens."""

    def record(self, module: nn.Module, hidden: Tensor) -> Callable[[], Outputs]:
        """Return what runs `module` on whatever lies in `hidden`; the next run may overwrite it."""


class Eager:
    """Launches kernel by kernel, on any device: what graphs are measured and tested against."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    @contextmanager
    def working(self) -> Iterator[None]:
        """Keep other threads out, torch's gradients off and its float32 exact."""
        with _ALONE, torch.inference_mode(), exact():
            yield

    def record(self, module: nn.Module, hidden: Tensor) -> Callable[[], Outputs]:
        """Return what runs `module` on whatever lies in `hidden`."""
        return lambda: module(hidden)


class Graphs:
    """Captures CUDA graphs on the current GPU; they share its memory and one stream.

    All that a bundle does there is on that stream, in the order of the calls: no graph starts
    before its rows have come, or before what the one before it wrote has been copied.
    """

    def __init__(self) -> None:
        self.device = torch.device("cuda", torch.cuda.current_device())
        self.stream = torch.cuda.Stream()
        self.pool = torch.cuda.graph_pool_handle()
        # With a graph torch frees workspaces of cuBLAS that the stream's other graphs still use;
        # so all of them, those whose capture failed too, live as long as the stream.
        self._graphs: list[torch.cuda.CUDAGraph] = []

    @contextmanager
    def working(self) -> Iterator[None]:
        """Keep other threads out and torch's gradients off; make the stream the current one."""
        with _ALONE, torch.inference_mode(), torch.cuda.stream(self.stream):
            yield

    def record(self, module: nn.Module, hidden: Tensor) -> Callable[[], Outputs]:
        """Capture `module` on `hidden`; return what replays it and where it writes."""
        graph = torch.cuda.CUDAGraph()
        self._graphs.append(graph)
        capture = torch.cuda.graph(
            graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local"
        )
        with exact():
            # On the stream of the capture: what libraries make there lasts, and lies in no graph.
            for _ in range(WARM_UP):
                module(hidden)
            with _nothing_collected(), capture:
                outputs: Outputs = module(hidden)

        def replay() -> Outputs:
            graph.replay()
            return outputs

        return replay


@contextmanager
def exact() -> Iterator[None]:
    """Let cuDNN and cuBLAS compute float32 as such, by algorithms that always give the same bits.

    TF32 rounds factors to 10 bits, which is further from the trained network than the parity gate
    allows. cuDNN measures which of its algorithms is fastest. The process's own settings return.
    """
    cudnn: Any = torch.backends.cudnn  # Any: torch's types do not know of conv
    matmul = torch.backends.cuda.matmul
    before = cudnn.conv.fp32_precision, matmul.fp32_precision, cudnn.benchmark, cudnn.deterministic
    cudnn.conv.fp32_precision = matmul.fp32_precision = "ieee"
    cudnn.benchmark = cudnn.deterministic = True
    try:
        yield
    finally:
        cudnn.conv.fp32_precision, matmul.fp32_precision = before[:2]
        cudnn.benchmark, cudnn.deterministic = before[2:]


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """Keep Python from destroying a dropped graph in the middle of a capture, which spoils it."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
