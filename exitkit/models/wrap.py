"""Any sequentially executed model as a network with exits.

The model's forward code is cut where the user says; its blocks stay the very modules that they
were. Early exits get light heads, cut to measured shapes; the model's own end is the deepest
exit, and its logits stay as they were, bit for bit.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, fx, nn

from exitkit import names
from exitkit.errors import ConfigError
from exitkit.models import cut, places, probe, sources, spine
from exitkit.models.exitnet import ExitNet, chosen
from exitkit.models.foreign_heads import head
from exitkit.models.spine import Spine

SHOWN = 120  # characters of torch's own message


def wrap(
    model: nn.Module,
    at: Sequence[str],
    classes: int | None = None,
    image_size: int | None = None,
    exits: Sequence[int] | None = None,
    first: int = 1,
) -> ExitNet:
    """Turn a model into a network with exits; it shares its parts with the model.

    Args:
        model: takes images [B, 3, H, W], returns logits [B, C].
        at: names of modules after which an exit is put, in the order in which they run, such as
            ("layer1", "layer2", "layer3"). The model's end is one exit more.
        classes: C. Where it is not the model's own number, the last linear layer is replaced by a
            fresh one; where it is, or is not given, the model's own logits stay, bit for bit.
        image_size: pixels per side; where not given, what the model says it is made for, or 224.
        exits: numbers of the exits to build, the deepest among them; all where not given.
        first: above 1, only stages `first` to K are taken: a branch.

    Raises:
        ConfigError: an argument does not fit; or the model cannot be cut there (with the names of
            places where it can), or not at all.
    """
    if isinstance(at, str):
        raise ConfigError(f"at={at!r}", "is no list of names", f"give at={at.split(',')}")
    wanted = chosen(type(model).__name__, len(at) + 1, exits, first)
    size = image_size or probe.own_size(model) or probe.USUAL
    answer = probe.run(model, size)
    own, told = answer.classifier, answer.logits.shape[1]
    classes = told if classes is None else classes
    if classes < 2:
        raise ConfigError(f"{classes} classes", "nothing to tell apart", "give at least 2")
    found = _trace(model, at, own, size)
    nodes = _cuts(model, found, at, size)
    end = cut.ends(found, nodes[-1], own)
    nodes.append(end.feature)
    stages, last = cut.stages(found, nodes), cut.own_head(found, end)
    _prove(model, [*stages, last], size, answer.logits)
    if classes != told:
        _replace_classifier(last, None if end.embedding is None else own, classes)
    heads = _heads(found, nodes, last, wanted, classes)
    return ExitNet(stages[first - 1 :], heads, first).train(model.training)


def named(
    arch: str,
    at: Sequence[str],
    classes: int,
    image_size: int,
    exits: Sequence[int],
    first: int = 1,
    weights: str = names.FRESH,
    keep: bool = False,
) -> ExitNet:
    """Build a model by name and wrap it.

    Args:
        arch: see `sources.make`.
        at: see `wrap`, as the next four.
        classes: C.
        image_size: pixels per side.
        exits: numbers of the exits to build.
        first: number of the first stage to take.
        weights: "fresh", "default" (published ones, fetched) or a file of the model's weights,
            which may be for another number of classes than the model is built for.
        keep: whether the model's own classifier must stay.

    Raises:
        ConfigError: no such model or weights, or it cannot be cut there.
    """
    file = weights not in (names.FRESH, *names.PUBLISHED)
    own = keep or file  # the weights say how many classes there are
    model = sources.make(arch, weights in names.PUBLISHED, None if own else classes)
    if file:
        _load(model, Path(weights), image_size)
    told = probe.run(model, image_size).logits.shape[1] if keep else classes
    if told != classes:
        raise ConfigError(
            f"{arch} as it is on {classes} classes",
            f"its weights tell {told} classes apart",
            "give --weights for these classes, or --regime joint or mixed",
        )
    return wrap(model, at, classes, image_size, exits, first)


def _load(model: nn.Module, path: Path, size: int) -> None:
    """Load a file into the model; the classifier gets as many classes as the file has."""
    found = sources.read_weights(path)
    own = probe.run(model, size).classifier
    if own is not None and f"{own}.weight" in found:
        old, told = model.get_submodule(own), len(found[f"{own}.weight"])
        if probe.outputs_of(old) != told:
            model.set_submodule(own, probe.fresh_classifier(old, told))
    try:
        model.load_state_dict(found)
    except RuntimeError as error:
        line = next(iter(str(error).splitlines()[1:]), str(error)).strip()
        first = line if len(line) < SHOWN else f"{line[:SHOWN]}..."
        raise ConfigError(
            f"weights {path}",
            f"they are another model's ({first})",
            "give the --arch that they were trained with",
        ) from error


def _trace(model: nn.Module, at: Sequence[str], own: str | None, size: int) -> Spine:
    """Trace through whatever contains a cut or the classifier."""
    known = {name for name, _ in model.named_modules() if name}
    strangers = [name for name in at if name not in known]
    if strangers or not at:
        raise places.refuse(model, at, size, strangers)
    return spine.trace(model, spine.parents({*at, *([own] if own else [])}), size)


def _cuts(model: nn.Module, found: Spine, at: Sequence[str], size: int) -> list[fx.Node]:
    nodes = []
    for name in at:
        calls = found.outputs.get(name, [])
        if len(calls) != 1 or not places.possible(found, calls[0]):
            raise places.refuse(model, at, size, [name], found)
        nodes.append(calls[0])
    order = [found.position(node) for node in nodes]
    if order != sorted(set(order)):
        ran = sorted(zip(order, at, strict=True))
        raise ConfigError(
            f"exits at {', '.join(at)}",
            "the model runs them in another order, or one twice",
            f"give {','.join(dict.fromkeys(name for _, name in ran))}",
        )
    return nodes


def _prove(model: nn.Module, pieces: list[fx.GraphModule], size: int, logits: Tensor) -> None:
    """Refuse pieces that do not answer as the model does, bit for bit."""
    with probe.quiet(nn.ModuleList(pieces)):
        answer = cut.run(pieces, probe.images(model, size))
    if not torch.equal(answer, logits):
        raise ConfigError(
            f"cutting {type(model).__name__}",
            "the pieces in a row answer otherwise than the model: its forward code depends on "
            "something beside the images",
            "write it as nn.Sequential",
        )


def _replace_classifier(last: fx.GraphModule, name: str | None, classes: int) -> None:
    if name is None:
        raise ConfigError(
            f"a model for {classes} classes",
            "its end is no linear layer that could be replaced",
            "build it for that many classes (--arch python:MODULE:FUNCTION)",
        )
    last.set_submodule(name, probe.fresh_classifier(last.get_submodule(name), classes))


def _heads(
    found: Spine, ends: list[fx.Node], last: fx.GraphModule, wanted: Sequence[int], classes: int
) -> dict[int, nn.Module]:
    """Make the heads, deepest first: other exits never change the weights of a deeper one."""
    layouts = [cut.layout(found.shapes[node]) for node in ends]
    deepest = layouts[-1]
    with probe.quiet(last):
        like = next(last.parameters(), torch.zeros(()))
        feature = torch.zeros(2, *_outward(found.shapes[ends[-1]]))
        width = last(feature.to(like.device, like.dtype))[2].shape[1]
    heads: dict[int, nn.Module] = {len(ends): last}
    for k in sorted(set(wanted) - {len(ends)}, reverse=True):
        taken = layouts[k - 1]
        side = math.isqrt(deepest.positions)
        if deepest.kind != "map":
            side = min(side, math.isqrt(taken.positions))
        made = head(taken, side, deepest, width, classes)
        heads[k] = made.to(like.device, like.dtype)
    return heads


def _outward(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[2], *shape[:2]) if cut.layout(shape).last else shape
