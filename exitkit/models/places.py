"""Where a foreign model can be cut, and the refusal that names these places."""

import difflib
from collections.abc import Sequence

from torch import fx, nn

from exitkit.errors import ConfigError
from exitkit.models import cut, spine
from exitkit.models.spine import Spine

SHOWN = 24


def possible(found: Spine, node: fx.Node) -> bool:
    """Whether an exit may follow here.

    The node's value must be a map or tokens and all that the rest of the forward needs, and
    something must be left to compute before the classifier.
    """
    if not found.alone(node) or cut.layout(found.shapes[node]).kind == "other":
        return False
    rest = found.nodes[found.position(node) + 1 :]
    learning = [one for one in rest if found.learns(one)]
    return len(learning) > 1 or any(one.op == "get_attr" for one in rest)


def every(model: nn.Module, size: int) -> list[str]:
    """Return the names of the places where a model can be cut, in the order in which they run.

    Stacks of blocks are looked into, blocks are not; single layers are named only where the
    model has nothing larger.

    Raises:
        ConfigError: the model's forward code cannot be traced at all.
    """
    try:
        found = spine.trace(model, _stacks(model), size)
    except ConfigError:
        found = spine.trace(model, set(), size)
    names: dict[fx.Node, str] = {}
    for name, calls in found.outputs.items():
        # The last block of a stack ends where the stack does: the shorter name is enough.
        if name and len(calls) == 1 and possible(found, calls[0]):
            names[calls[0]] = min(name, names.get(calls[0], name), key=len)
    ordered = [names[node] for node in found.nodes if node in names]
    larger = [name for name in ordered if next(model.get_submodule(name).children(), None)]
    return larger or ordered


def _stacks(model: nn.Module) -> set[str]:
    """Return the names of the model's own rows of layers, and of whatever has equal blocks."""
    rows = {name for name, child in model.named_children() if isinstance(child, nn.Sequential)}
    for name, module in model.named_modules():
        kinds = {type(child) for child in module.children()}
        several = len(list(module.children())) > 1 and next(module.parameters(), None) is not None
        if several and len(kinds) == 1 and isinstance(module, nn.Sequential | nn.ModuleList):
            rows.add(name)
    return {name for name in rows | spine.parents(rows) if name}


def refuse(
    model: nn.Module,
    at: Sequence[str],
    size: int,
    wrong: Sequence[str],
    found: Spine | None = None,
) -> ConfigError:
    """Make the error for places that do not exist or where the model cannot be cut."""
    name = type(model).__name__
    known = every(model, size)
    do = f"choose from: {', '.join(known[:SHOWN])}" + (", ..." if len(known) > SHOWN else "")
    if not known:
        do = "write it as nn.Sequential of its blocks"
    if not at:
        return ConfigError(f"exits in {name}", "no place is named (--at)", do)
    asked = f"an exit in {name} after {', '.join(wrong)}"
    if found is None:
        near = difflib.get_close_matches(wrong[0], [n for n, _ in model.named_modules()], n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return ConfigError(asked, "it has no such module", hint + do)
    return ConfigError(asked, _why(found, wrong[0]), do)


def _why(found: Spine, name: str) -> str:
    calls = found.outputs.get(name, [])
    if not calls:
        return "its forward code does not call that module by itself"
    if len(calls) > 1:
        return f"it runs {len(calls)} times"
    node = calls[0]
    if node not in found.shapes:
        return "it does not give one tensor with the images on its first axis"
    if not found.alone(node):
        count = len(found.crossing[node] | {node})
        return f"{count} values are needed behind it, and only one can cross a cut"
    shape = found.shapes[node]
    if cut.layout(shape).kind == "other":
        return f"it gives {shape} per image, neither a map (D, h, w) nor tokens (N, D)"
    return "only the classifier follows, which is an exit already"
