"""Cut a traced model into pieces that run one after the other: stages, and the own last head."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn.modules.dropout import _DropoutNd

from exitkit.models.spine import BATCH, ROOT, Number, Spine


@dataclass(frozen=True)
class Layout:
    """How a value's axes are ordered.

    Attributes:
        kind: "map", "tokens" or "other".
        last: whether a map has its channels on the last axis instead of the first.
        channels, positions: its sizes.
    """

    kind: str
    last: bool
    channels: int
    positions: int


def layout(shape: tuple[int, ...]) -> Layout:
    """Read a shape without the batch: (D, h, w), (h, w, D) or (N, D).

    Images are square, so the two sides of a map are equal and tell where the channels are.
    """
    if len(shape) == 3:
        last = shape[0] == shape[1] != shape[2]
        channels = shape[2] if last else shape[0]
        return Layout("map", last, channels, shape[1] ** 2)
    if len(shape) == 2:
        return Layout("tokens", False, shape[1], shape[0])
    return Layout("other", False, shape[-1] if shape else 0, 1)


@dataclass(frozen=True)
class Ends:
    """Where the own last head begins and what its classifier sees.

    Attributes:
        feature: the last map, or the last tokens, before pooling.
        embedding: [B, D] (or [B, D, 1, 1]) in front of the classifier; None where the model's
            end is no linear layer.
    """

    feature: fx.Node
    embedding: fx.Node | None


def ends(spine: Spine, last: fx.Node, classifier: str | None) -> Ends:
    """Find the feature and the embedding behind the last cut."""
    embedding = None
    if classifier is not None and len(calls := spine.outputs.get(classifier, [])) == 1:
        before = calls[0].all_input_nodes[0]
        size = spine.shapes.get(before, ())
        flat = size[1:] in ((), (1, 1))
        if flat and spine.alone(before) and spine.position(before) >= spine.position(last):
            embedding = before
    stop = spine.logits if embedding is None else embedding
    kind = layout(spine.shapes[last]).kind
    between = spine.nodes[spine.position(last) : spine.position(stop) + 1]
    fit = [n for n in between if spine.alone(n) and layout(spine.shapes[n]).kind == kind]
    for before, node in pairwise(fit):
        pooled = layout(spine.shapes[before]).positions > layout(spine.shapes[node]).positions == 1
        if pooled and _averages(spine, node):
            return Ends(before, embedding)
    return Ends(fit[-1], embedding)


def _averages(spine: Spine, node: fx.Node) -> bool:
    """Whether a node that leaves one position is the pooling at the end.

    It has nothing to learn, and a maximum is rather taken between blocks.
    """
    called = type(spine.part(node.target)) if node.op == "call_module" else node.target
    return not spine.learns(node) and "max" not in getattr(called, "__name__", str(called)).lower()


def stages(spine: Spine, cuts: Sequence[fx.Node]) -> list[fx.GraphModule]:
    """Return one module per stage: from the images to the first cut, from there to the next..."""
    images = spine.nodes[0]
    starts: list[fx.Node] = [images, *cuts[:-1]]
    return [_stage(spine, start, end) for start, end in zip(starts, cuts, strict=True)]


def own_head(spine: Spine, found: Ends) -> fx.GraphModule:
    """Return the model's own end: feature -> (logits, feature, embedding)."""
    piece = _Piece(spine, found.feature)
    logits = piece.value(spine.logits)
    if found.embedding is not None:
        embedding = piece.graph.call_method("flatten", (piece.value(found.embedding), 1))
    else:
        axis = (2, 3) if layout(spine.shapes[found.feature]).kind == "map" else (1,)
        embedding = piece.graph.call_method("mean", (piece.hidden, axis))
    return piece.finish((logits, piece.hidden, embedding))


def _stage(spine: Spine, start: fx.Node, end: fx.Node) -> fx.GraphModule:
    piece = _Piece(spine, start)
    return piece.finish(piece.outward(end))


class _Piece:
    """One piece under construction: the nodes after `start`, which it takes as its input.

    Maps travel between pieces with the channels first: a model that keeps them last gets its
    axes turned at the border, which moves no number.
    """

    def __init__(self, spine: Spine, start: fx.Node) -> None:
        self.spine, self.graph = spine, fx.Graph()
        self.parts: dict[str, Any] = {}
        self.hidden = self.graph.placeholder("hidden")
        self.start = spine.position(start)
        inside = self.hidden
        if self.start > 0 and layout(spine.shapes[start]).last:
            inside = self.graph.call_method("permute", (self.hidden, 0, 2, 3, 1))
        self.made: dict[fx.Node, Any] = {start: inside}
        self.done = self.start

    def value(self, node: fx.Node) -> Any:  # Any: a node of this graph, or a plain number
        """Run everything up to `node` and return its value."""
        for one in self.spine.nodes[self.done + 1 : self.spine.position(node) + 1]:
            if one.op != "get_attr":
                self._keep(one, one.target)
                self.made[one] = self.graph.node_copy(one, self._argument)
        self.done = max(self.done, self.spine.position(node))
        return self._argument(node)

    def outward(self, node: fx.Node) -> Any:
        """Return the value as it leaves the piece: maps with the channels first."""
        value = self.value(node)
        if self.spine.position(node) > 0 and layout(self.spine.shapes[node]).last:
            return self.graph.call_method("permute", (value, 0, 3, 1, 2))
        return value

    def finish(self, output: Any) -> fx.GraphModule:
        """Return the module; its parts are the model's own, under the model's own names."""
        self.graph.output(output)
        for node in self.graph.nodes:
            if node.op in ("call_module", "get_attr") and node.target != "training":
                node.target = _plain(node.target)
        return fx.GraphModule(self.parts, self.graph)

    def _argument(self, node: fx.Node) -> Any:
        if node in self.made:
            return self.made[node]
        if node.op == "get_attr":
            self._keep(node, node.target)
            self.made[node] = self.graph.create_node("get_attr", str(node.target))
            return self.made[node]
        # Made before this piece, and no tensor: made again from what the piece takes.
        return self._again(self.spine.numbers[node])

    def _again(self, number: Number) -> Any:
        value = number.value
        if isinstance(value, tuple):
            return tuple(self._again(Number(part)) for part in value)
        if isinstance(value, torch.device):
            return self.graph.call_function(getattr, (self.hidden, "device"))
        if value is BATCH:
            return self.graph.call_method("size", (self.hidden, 0))
        return value

    def _keep(self, node: fx.Node, target: Any) -> None:
        if node.op == "get_attr" and target == "training":
            self.parts["training"] = True
        elif node.op in ("call_module", "get_attr"):
            self.parts[_plain(target)] = self.spine.part(target)


def _plain(target: Any) -> str:  # Any: fx types targets loosely
    return str(target).removeprefix(f"{ROOT}.")


def run(pieces: Sequence[fx.GraphModule], images: Tensor) -> Tensor:
    """Run stages and own head in a row; return the logits.

    A piece that overwrites its own input, which others read, works on a copy from then on.
    """
    hidden = images
    for piece in pieces:
        before = hidden._version
        output = piece(hidden)
        if hidden._version != before or _in_place(piece):
            _copying(piece)
        hidden = output[0] if isinstance(output, tuple) else output
    return hidden


def _in_place(piece: fx.GraphModule) -> bool:
    """Whether the input may be overwritten in training only, where no blank run shows it.

    A dropout in a block that keeps its own code may be the first to see the input or not: a copy
    too many costs little.
    """
    if any(getattr(m, "inplace", False) for m in piece.modules() if isinstance(m, _DropoutNd)):
        return True
    return any(user.kwargs.get("inplace") for user in next(iter(piece.graph.nodes)).users)


def _copying(piece: fx.GraphModule) -> None:
    hidden = next(iter(piece.graph.nodes))
    with piece.graph.inserting_after(hidden):
        own = piece.graph.call_method("clone", (hidden,))
    hidden.replace_all_uses_with(own, delete_user_cb=lambda user: user is not own)
    piece.recompile()
