"""What a foreign model does with images: the blank run from which everything else is measured."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from exitkit.errors import ConfigError

# Where a model does not say which images it takes.
USUAL = 224
# Sizes that are tried for the reader where the given one does not work.
TRIED = (32, 64, 96, 112, 128, 144, 160, 192, 224, 240, 256, 288, 299, 320, 336, 384, 448, 512)


@contextmanager
def quiet(model: nn.Module, training: bool = False) -> Iterator[None]:
    """Put every module into one mode, without gradients; bring all modes back at the end."""
    modes = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def images(model: nn.Module, size: int, count: int = 2) -> Tensor:
    """Return images [count, 3, size, size] that are never the same twice, on the model's device.

    No random generator is touched.
    """
    like = next(model.parameters(), torch.zeros(()))
    rows = torch.arange(count * 3 * size * size, dtype=torch.float32).mul(0.7).sin()
    return rows.reshape(count, 3, size, size).to(like.device, like.dtype)


def own_size(model: nn.Module) -> int | None:
    """Return the image size that a torchvision or timm model says it is made for."""
    configured = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None)
    if isinstance(configured, dict) and "input_size" in configured:
        return int(configured["input_size"][-1])
    size = getattr(model, "image_size", None)
    return size if isinstance(size, int) else None


@dataclass(frozen=True)
class Answer:
    """What a model says about the probe's images.

    Attributes:
        logits: [2, C].
        classifier: name of the last linear layer (or 1x1 convolution) to run that gives C
            numbers, so that a layer inside a block is not mistaken for it; None without one.
    """

    logits: Tensor
    classifier: str | None


def run(model: nn.Module, size: int) -> Answer:
    """Run two images of `size` pixels through a model in evaluation mode.

    Raises:
        ConfigError: the model does not take such images (and which it takes), or answers with
            something else than logits.
    """
    ran: list[tuple[str, int]] = []
    hooks = [
        module.register_forward_hook(lambda *_, n=name, o=outputs: ran.append((n, o)))
        for name, module in model.named_modules()
        if (outputs := outputs_of(module)) is not None
    ]
    try:
        with quiet(model):
            logits = model(images(model, size))
    except Exception as error:  # whatever a stranger's code raises
        raise _no_answer(model, size, error) from error
    finally:
        for one in hooks:
            one.remove()
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 2:
        kind = f"a {type(logits).__name__}"
        found = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else kind
        raise ConfigError(
            f"{type(model).__name__} with exits",
            f"it answers two images with {found}, not with logits [2, C]",
            "put it into a module whose forward returns logits",
        )
    fitting = [name for name, outputs in ran if outputs == logits.shape[1]]
    return Answer(logits, fitting[-1] if fitting else None)


def _no_answer(model: nn.Module, size: int, error: Exception) -> ConfigError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    found = f"its forward fails ({lines[0]})"
    works = _working(model, size)
    do = f"give --image-size {works}" if works else "try it on torch.zeros(2, 3, H, W) first"
    return ConfigError(f"{type(model).__name__} on images of {size} pixels", found, do)


def _working(model: nn.Module, size: int) -> int | None:
    """Return the nearest image size with which the model's forward does not fail."""
    own = own_size(model)
    nearest = sorted(TRIED, key=lambda tried: abs(tried - size))
    for tried in ([own] if own else []) + nearest:
        try:
            with quiet(model):
                model(images(model, tried))
        except Exception:  # as above
            continue
        return tried
    return None


def outputs_of(module: nn.Module) -> int | None:
    """Return how many numbers a layer gives that could be a classifier; None for other layers."""
    if isinstance(module, nn.Linear):
        return module.out_features
    if isinstance(module, nn.Conv2d) and set(module.kernel_size) == {1} and module.groups == 1:
        return module.out_channels
    return None


def fresh_classifier(old: nn.Module, classes: int) -> nn.Module:
    """Make a layer like `old`, with fresh weights, that gives `classes` numbers."""
    if isinstance(old, nn.Conv2d):
        made: nn.Module = nn.Conv2d(old.in_channels, classes, 1, bias=old.bias is not None)
        like = old.weight
    else:
        assert isinstance(old, nn.Linear)
        made, like = nn.Linear(old.in_features, classes, old.bias is not None), old.weight
    return made.to(like.device, like.dtype)
