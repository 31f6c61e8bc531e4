"""Where and in what precision a run computes: asked for, or measured and said."""

import copy
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional

from exitkit.errors import ConfigError, unknown
from exitkit.objectives.preflight import generators_restored
from exitkit.records import Batch, Clock

# bf16 must gain this much before its coarser numbers are worth it.
WORTH = 1.1
# A small convolution below this share of the speed settles it without a real step.
HOPELESS = 0.67
ROUNDS = 3


def choose_device(name: str) -> torch.device:
    """Return the device that was asked for; "auto" takes a GPU if there is one.

    Raises:
        ConfigError: a device that is not on this machine; nothing is switched silently.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if (kind, number) == ("cpu", ""):
        return torch.device("cpu")
    if kind != "cuda" or (number and not number.isdecimal()):
        raise unknown("device", name, ("auto", "cpu", "cuda", "cuda:0"))
    here = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(number or 0) >= here:
        raise ConfigError(
            f"device {name}", f"this machine has {here} usable GPU(s)", "use --device cpu or auto"
        )
    return torch.device(name)


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which a network runs: bf16 autocast, or nothing for float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def choose_precision(
    name: str, step: nn.Module, batches: Sequence[Batch], device: torch.device
) -> tuple[str, str]:
    """Return "float32" or "bf16", and why.

    "auto" times a small convolution first and gives up early where bf16 is emulated; then it
    times real training steps on copies. Weights, memories and generators stay as they were.

    Args:
        name: "auto", or what was asked for.
        step: maps (batch, clock) to (loss, terms, outputs); it is copied, never run itself.
        batches: what to step on, on `device`.
        device: where.
    """
    if name != "auto":
        return name, f"precision {name} (asked for)"
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return "float32", "precision float32 (this GPU has no bf16)"
    if device.type == "cpu":
        ratio = _speed_up(lambda precision, _: _convolve(precision))
        if ratio < HOPELESS:
            return "float32", f"precision float32 ({_measured(ratio, 'a small convolution')})"
    ratio = _measure_steps(step, batches, device)
    taken = "bf16" if ratio >= WORTH else "float32"
    return taken, f"precision {taken} ({_measured(ratio, 'a training step')})"


def _measured(ratio: float, what: str) -> str:
    return f"measured here: bf16 runs {what} at {ratio:.2g} x the speed of float32"


def _speed_up(run: Callable[[str, int], None]) -> float:
    """Return float32's time over bf16's, each the median of interleaved rounds after a warm-up."""
    times: dict[str, list[float]] = {"float32": [], "bf16": []}
    for number in range(ROUNDS + 1):
        for precision, taken in times.items():
            start = time.perf_counter()
            run(precision, number)
            taken.append(time.perf_counter() - start)
    return statistics.median(times["float32"][1:]) / statistics.median(times["bf16"][1:])


def _convolve(precision: str) -> None:
    """Run a small convolution forward and backward: milliseconds, or tens where emulated."""
    images = torch.ones(8, 32, 16, 16, requires_grad=True)
    weights = torch.ones(32, 32, 3, 3, requires_grad=True)
    with autocast(torch.device("cpu"), precision):
        answer = functional.conv2d(images, weights)
    answer.float().sum().backward()


def _measure_steps(step: nn.Module, batches: Sequence[Batch], device: torch.device) -> float:
    """Time real training steps on a copy; the generators come back."""
    copied = copy.deepcopy(step).train()

    def train(precision: str, number: int) -> None:
        copied.zero_grad(set_to_none=True)
        with autocast(device, precision):
            loss, _, _ = copied(batches[number % len(batches)], Clock(0, 1, 0, 1))
        loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    with generators_restored():
        return _speed_up(train)
