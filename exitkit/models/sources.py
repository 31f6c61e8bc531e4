"""Foreign models by name: `torchvision:resnet50`, `timm:convnext_tiny`, `python:module:function`.

Weights are fetched only where the user asks for `default` ones; a file of weights is read without
unpickling code.
"""

import difflib
import importlib
import pickle
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from exitkit import names
from exitkit.errors import ConfigError, unknown

Colours = tuple[float, float, float]
# Networks whose auxiliary outputs exits replace; their weights switch on a change of the images.
AUXILIARY = ("googlenet", "inception_v3")
_UNREADABLE = (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError)


def make(arch: str, fetched: bool = False, classes: int | None = None) -> nn.Module:
    """Build a foreign model.

    Args:
        arch: "torchvision:NAME", "timm:NAME" or "python:MODULE:FUNCTION"; the function takes no
            arguments and returns the module. It is imported, also from the current folder.
        fetched: with the weights that its makers publish, else with fresh ones.
        classes: for which its library builds it, where it can: not `python:`, and not torchvision
            with published weights. As many as the model has by itself where not given.

    Raises:
        ConfigError: no such name, or the weights cannot be fetched.
    """
    source, _, name = arch.partition(":")
    if source == "python":
        return _python(name, fetched)
    options = {} if classes is None else {"num_classes": classes}
    if source == "torchvision":
        return _torchvision(name, fetched, {} if fetched else options)
    return _timm(name, fetched, options)


def look(arch: str) -> tuple[Colours, Colours] | None:
    """Return mean and deviation of the pixels that a model's published weights were taught on.

    None where nobody says: the weights of `python:` models, and of names without weights.

    Raises:
        ConfigError: no such name.
    """
    source, _, name = arch.partition(":")
    if source == "torchvision":
        weights = _models(name).get_model_weights(name)
        transforms: Any = next(iter(weights)).transforms() if len(weights) else None
        mean, std = getattr(transforms, "mean", None), getattr(transforms, "std", None)
        return (_colours(mean), _colours(std)) if mean and std else None
    if source == "timm":
        told = _timm_package(name).get_pretrained_cfg(name)
        return (_colours(told.mean), _colours(told.std)) if told is not None else None
    return None


def _colours(values: Any) -> Colours:  # Any: three numbers
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a file of weights: safetensors, or what torch saved, without unpickling code.

    A table with one entry `state_dict` or `model` among others is opened.

    Raises:
        ConfigError: the file is missing, damaged, or holds something else.
    """
    try:
        if path.suffix == ".safetensors":
            return _safetensors(path)
        table: Any = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"weights {path}", f"cannot be read ({first})", "give safetensors, or torch weights"
        ) from error
    for entry in ("state_dict", "model"):
        if isinstance(table, Mapping) and isinstance(table.get(entry), Mapping):
            table = table[entry]
    if not isinstance(table, Mapping) or not all(isinstance(t, Tensor) for t in table.values()):
        raise ConfigError(
            f"weights {path}", "is no table of tensors", "save model.state_dict() into it"
        )
    return dict(table)


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise _missing(f"weights {path}", "safetensors", "train") from error
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(error) from error


def _models(name: str) -> Any:  # Any: an untyped package
    """Return torchvision's networks, once `name` is known to be one of them."""
    try:
        from torchvision import models
    except ImportError as error:
        raise _missing("torchvision networks", "torchvision", "train") from error
    known = models.list_models(module=models)
    if name not in known:
        raise _nobody("torchvision", name, known)
    return models


def _timm_package(name: str) -> Any:  # Any: an untyped package
    """Return timm, once `name` is known to be a network of it, and its tag one of that network."""
    try:
        import timm
    except ImportError as error:
        raise _missing("timm networks", "timm", "timm") from error
    base, _, tag = name.partition(".")
    if not timm.is_model(base):
        raise _nobody("timm", name, timm.list_models())
    tagged = timm.list_pretrained(f"{base}.*")
    if tag and name not in tagged:
        raise unknown("timm network", name, tagged)
    return timm


def _missing(asked: str, package: str, extra: str) -> ConfigError:
    return ConfigError(asked, f"{package} is not installed", f'pip install "exitkit[{extra}]"')


def _torchvision(name: str, fetched: bool, options: dict[str, Any]) -> nn.Module:
    models = _models(name)
    if name in AUXILIARY:
        if fetched:
            raise ConfigError(
                f"the published weights of torchvision:{name}",
                "they come with other forward code than the network has without them",
                "build it in a function of your own (--arch python:module:function)",
            )
        options = {**options, "aux_logits": False, "init_weights": True}
    with _fetching(f"torchvision:{name}", fetched):
        made: nn.Module = models.get_model(name, weights="DEFAULT" if fetched else None, **options)
    return made


def _timm(name: str, fetched: bool, options: dict[str, Any]) -> nn.Module:
    timm = _timm_package(name)
    with _fetching(f"timm:{name}", fetched):
        made: nn.Module = timm.create_model(name, pretrained=fetched, **options)
        # Forward code that takes images of any size decides by their size, and cannot be cut.
        if getattr(made, "dynamic_img_size", False):
            options = {**options, "dynamic_img_size": False}
            made = timm.create_model(name, pretrained=fetched, **options)
    return made


def _nobody(source: str, name: str, known: list[str]) -> ConfigError:
    """Say what is near: the whole list may have more than a thousand names."""
    near = difflib.get_close_matches(name, known, n=3)
    do = f"did you mean {', '.join(near)}?" if near else f"see the list in {source}'s documents"
    return ConfigError(f"{source} network {name!r}", f"{source} has none of that name", do)


@contextmanager
def _fetching(arch: str, fetched: bool) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of networks, hubs and files: each library has its own
        if not fetched:
            raise
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ConfigError(
            f"the published weights of {arch}",
            f"could not be had ({first})",
            "give --weights the path of a file, or leave it out",
        ) from error


def _python(name: str, fetched: bool) -> nn.Module:
    module, _, function = name.partition(":")
    if not module or not function:
        raise ConfigError(
            f"network python:{name}", "names no function", "write python:package.module:function"
        )
    if fetched:
        raise ConfigError(
            f"published weights of python:{name}",
            f"exitkit knows of none ({', '.join(names.PUBLISHED)} belong to torchvision and timm)",
            "give --weights the path of a file, or load them in the function",
        )
    with _current_folder():
        try:
            factory = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"network python:{name}", f"cannot be imported ({error})", "check both names"
            ) from error
        made = factory()
    if not isinstance(made, nn.Module):
        raise ConfigError(
            f"network python:{name}",
            f"{function}() returned a {type(made).__name__}",
            "return the nn.Module",
        )
    return made


@contextmanager
def _current_folder() -> Iterator[None]:
    """Let modules be found in the current folder, as `python -m` does."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
