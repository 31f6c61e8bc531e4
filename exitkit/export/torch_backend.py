"""The torch backend: a bundle's segments as CUDA graphs, one per segment and size of batch.

Sizes are powers of two: rows are copied to where a graph reads, what lies behind them is left
from before (in evaluation mode no row sees another), and what the graph wrote is copied before
it runs again. The rows that go on are gathered on the device.

A bundle holds ONNX only, so the network comes from the run that it was exported from. Nothing
else that serves knows of torch; exitkit/engine/backends.py imports this file when asked for it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from exitkit import runs
from exitkit.bundle import Manifest
from exitkit.engine.engine import require_input
from exitkit.errors import BundleError, CheckpointError, ConfigError, EngineError
from exitkit.export.graphs import Graphs, Outputs, Place
from exitkit.export.segments import SegmentModule, cut, input_shapes
from exitkit.runs import Run
from exitkit.train import evaluate

Floats = NDArray[np.float32]

LARGEST = 1024  # rows of one graph; a larger batch runs in parts


class TorchRows:
    """Rows of a feature map on a device; what one may do with them is `take` and `concat`.

    Args:
        value: float32 [n, ...] on the device; nobody writes there again.
        place: that computes there.
    """

    def __init__(self, value: Tensor, place: Place) -> None:
        self.value, self.place = value, place

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all rows together."""
        return tuple(self.value.shape)

    def __len__(self) -> int:
        return len(self.value)

    def take(self, rows: NDArray[np.int64], axis: int = 0) -> "TorchRows":
        """Return some rows, copied on the device; only their numbers travel there.

        Raises:
            EngineError: torch failed, for want of memory perhaps.
        """
        assert axis == 0  # the batch
        try:
            with self.place.working():
                numbers = _send(rows, torch.int64, self.place.device)
                kept = _as_it_lies(self.value).index_select(0, numbers)
                return TorchRows(_as_named(kept), self.place)
        except (RuntimeError, IndexError) as error:
            raise _failed(f"{len(rows)} of {len(self)} rows", error) from error

    def concat(self, others: "Sequence[TorchRows]") -> "TorchRows":
        """Return these rows and behind them those of `others`, copied on the device.

        Raises:
            EngineError: rows of another shape, or torch failed, for want of memory perhaps.
        """
        values = [self.value, *(other.value for other in others)]
        try:
            with self.place.working():
                joined = torch.cat([_as_it_lies(value) for value in values])
                return TorchRows(_as_named(joined), self.place)
        except RuntimeError as error:
            raise _failed(f"{sum(map(len, values))} rows", error) from error

    def numpy(self) -> Floats:
        """Return a copy on the host."""
        with self.place.working():
            return self.value.to("cpu", copy=True).numpy()


class TorchSegment:
    """A segment of a network; one size of batch is captured when it is first asked for.

    Several threads may run it, one after the other.

    Args:
        module: taken over, and moved to the place.
        input_shape: of one image's "hidden".
        classes: length of the logits.
        place: where it computes.
    """

    def __init__(
        self, module: SegmentModule, input_shape: tuple[int, ...], classes: int, place: Place
    ) -> None:
        self.exit, self.input_shape, self.classes = module.exit, input_shape, classes
        self.pool, self.threads = "torch", 1  # one starts the graphs
        self._place = place
        self._recorded: dict[int, tuple[Tensor, Callable[[], Outputs]]] = {}
        with place.working():
            self._module = module.to(place.device).to(memory_format=torch.channels_last)

    def run(self, hidden: Floats | TorchRows) -> tuple[Floats, TorchRows | None]:
        """Take images or the rows of the segment before; return logits [n, C] and the next rows.

        Raises:
            EngineError: an input of another shape or type, or torch failed.
        """
        require_input(self, hidden)
        starts = range(0, max(len(hidden), 1), LARGEST)
        given = hidden.value if isinstance(hidden, TorchRows) else hidden
        try:
            with self._place.working():
                parts = [self._once(given[start : start + LARGEST]) for start in starts]
                logits = np.concatenate([part[0] for part in parts])
                onward = [part[1] for part in parts if part[1] is not None]
                if not onward:
                    return logits, None
                rows = onward[0] if len(onward) == 1 else torch.cat(onward)
                return logits, TorchRows(rows, self._place)
        except RuntimeError as error:
            raise _failed(f"exit {self.exit} with {len(hidden)} rows", error) from error

    def _once(self, given: Floats | Tensor) -> tuple[Floats, Tensor | None]:
        """Run at most LARGEST rows; return copies of what came out."""
        rows = len(given)
        hidden, run = self._sized(size(rows))
        if not isinstance(given, Tensor):
            given = _send(given, torch.float32, self._place.device)
        hidden[:rows].copy_(given)
        logits, *onward = run()
        # The copy to the host waits for all of it.
        copied = logits[:rows].to("cpu", copy=True).numpy()
        return copied, onward[0][:rows].clone() if onward else None

    def _sized(self, size: int) -> tuple[Tensor, Callable[[], Outputs]]:
        """Return what a batch of `size` rows is read from, and what runs it."""
        if size not in self._recorded:
            hidden = torch.zeros(size, *self.input_shape, device=self._place.device)
            if hidden.ndim == 4:
                hidden = hidden.contiguous(memory_format=torch.channels_last)
            self._recorded[size] = hidden, self._place.record(self._module, hidden)
        return self._recorded[size]


def size(rows: int) -> int:
    """Return how many rows a graph computes for so many: the next power of two."""
    return 1 << (max(rows, 1) - 1).bit_length()


def load(manifest: Manifest, place: Place | None = None) -> Sequence[TorchSegment]:
    """Load the segments of a bundle from the run that it was exported from, shallow to deep.

    Args:
        manifest: of the bundle.
        place: where they compute; graphs on the GPU where None.

    Raises:
        ConfigError: torch sees no GPU, or the bundle is not in float32.
        CheckpointError: the run is not in runs/, or its weights are damaged.
        BundleError: the run has other weights, exits or sizes than the bundle.
    """
    asked = f"bundle of run {manifest.name} on provider torch"
    if manifest.precision != "float32":
        raise ConfigError(
            asked,
            f"its {manifest.precision} weights are in its ONNX files alone, and torch runs the "
            "float32 network of the run",
            "export it with --precision float32, or choose another provider",
        )
    if place is None:
        place = _graphs()
    found = _run(manifest.name, asked)
    network, digest = evaluate.trained(found)
    if digest != manifest.network:
        raise BundleError(
            asked,
            f"{found.folder} has weights {digest[:12]} and the bundle those of "
            f"{manifest.network[:12]}: it was trained on, or is another run of that name",
            "export it again, or choose another provider",
        )
    card = found.read_card()
    told = [(piece.exit, piece.input_shape) for piece in manifest.segments]
    exits = tuple(exit for exit in manifest.exits if exit in network.exits)
    pieces = cut(network, exits)
    shapes = input_shapes(pieces, card.image.height, card.image.width)
    if list(zip(exits, shapes, strict=True)) != told or len(card.classes) != len(manifest.classes):
        raise BundleError(
            asked, "its manifest tells of other exits or sizes than the run has", "export it again"
        )
    return [
        TorchSegment(piece, shape, len(card.classes), place)
        for piece, shape in zip(pieces, shapes, strict=True)
    ]


def _run(name: str, asked: str) -> Run:
    try:
        return runs.find(name)
    except CheckpointError as error:
        do = "work in the folder whose runs/ has it, or choose another provider"
        raise CheckpointError(asked, f"{error.asked} is {error.found}", do) from error


def _graphs() -> Graphs:
    if not torch.cuda.is_available():
        raise ConfigError(
            "provider torch",
            f"torch {torch.__version__} sees no CUDA GPU on this machine",
            "see exitkit doctor, or choose another provider",
        )
    return Graphs()


def _send(array: NDArray[Any], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Copy an array to the device; only pinned memory travels without the processor waiting."""
    host = torch.empty(array.shape, dtype=dtype, pin_memory=device.type == "cuda")
    host.numpy()[...] = array
    return host.to(device, non_blocking=True)


def _as_it_lies(value: Tensor) -> Tensor:
    """Return maps [n, D, h, w] as [n, h, w, D]: rows are whole stretches of memory then."""
    return value.permute(0, 2, 3, 1) if value.ndim == 4 else value


def _as_named(value: Tensor) -> Tensor:
    return value.permute(0, 3, 1, 2) if value.ndim == 4 else value


def _failed(asked: str, error: Exception) -> EngineError:
    found = f"torch failed ({error})"
    return EngineError(asked, found, "give smaller batches, or run exitkit doctor")
