"""The spine of a foreign model: its forward code as a graph, blocks left as they are.

Only the modules that contain a wanted place are traced through; every other module is one node
of the graph and keeps its own code, so that what happens inside a block stays as it was written.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from exitkit.errors import ConfigError
from exitkit.models import probe

ROOT = "model"


@dataclass(frozen=True)
class Number:
    """A value beside tensors that both measured runs had, or that is the number of images.

    Attributes:
        value: the number, tuple or the like; `BATCH` stands for the number of images.
    """

    value: Any  # Any: whatever forward code computes


class _Batch:
    """Stands for the number of images inside a Number."""


BATCH = _Batch()


@dataclass(frozen=True)
class Spine:
    """What tracing and measuring found.

    Attributes:
        whole: a module that has the traced model as its part `model`.
        nodes: in the order in which they run; the first is the images, the last the output.
        outputs: name of a module -> the nodes that its calls gave.
        shapes: node -> shape without the batch, of every tensor whose first axis is the images.
        numbers: node -> what it is, of every value that can be made again anywhere.
        crossing: per node, the values that are needed after it (parameters and numbers apart).
    """

    whole: nn.Module
    nodes: list[fx.Node]
    outputs: dict[str, list[fx.Node]]
    shapes: dict[fx.Node, tuple[int, ...]]
    numbers: dict[fx.Node, Number]
    crossing: dict[fx.Node, frozenset[fx.Node]]

    @property
    def logits(self) -> fx.Node:
        """The node whose value the forward returns."""
        node = self.nodes[-1].args[0]
        assert isinstance(node, fx.Node)
        return node

    def position(self, node: fx.Node) -> int:
        """Return the node's place in the order of running."""
        return self.nodes.index(node)

    def alone(self, node: fx.Node) -> bool:
        """Whether this node's value is all that the rest of the forward needs."""
        return node in self.shapes and self.crossing[node] == {node}

    def part(self, target: Any) -> Any:  # Any: a module or a tensor
        """Return the module, parameter or buffer that a node's target names."""
        found: Any = self.whole
        for name in str(target).split("."):
            found = getattr(found, name)
        return found

    def learns(self, node: fx.Node) -> bool:
        """Whether the node is a module with parameters."""
        if node.op != "call_module":
            return False
        return next(self.part(node.target).parameters(), None) is not None


class _Whole(nn.Module):
    """The model called with images only, so that its other arguments keep their defaults."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Any:  # Any: a proxy while tracing
        return self.model(images)


class _Tracer(fx.Tracer):
    def __init__(self, opened: set[str]) -> None:
        super().__init__()
        self.opened = {ROOT} | {f"{ROOT}.{name}" for name in opened}
        self.outputs: dict[str, list[fx.Node]] = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name not in self.opened

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        output = super().call_module(m, forward, args, kwargs)
        name = self.path_of_module(m).removeprefix(ROOT).removeprefix(".")
        if isinstance(output, fx.Proxy):
            self.outputs.setdefault(name, []).append(output.node)
        return output


def parents(names: set[str]) -> set[str]:
    """Return the names of all modules that contain one of the named ones."""
    return {name.rsplit(".", depth)[0] for name in names for depth in range(1, name.count(".") + 1)}


def trace(model: nn.Module, opened: set[str], size: int) -> Spine:
    """Trace through the modules named in `opened` and measure every value on the way.

    Args:
        model: any; its modes and weights stay as they are.
        opened: names of the modules that are traced through; the model itself always is.
        size: pixels per side of the images.

    Raises:
        ConfigError: the forward code decides by values, or goes another way in training.
    """
    whole = _Whole(model)
    tracer, graph = _graph(whole, opened, training=False)
    _, training = _graph(_Whole(model), opened, training=True)
    _follow_mode(model, graph, training)
    nodes = list(graph.nodes)
    shapes, numbers = _measure(whole, graph, size)
    return Spine(whole, nodes, tracer.outputs, shapes, numbers, _crossing(nodes, numbers))


def _graph(root: _Whole, opened: set[str], training: bool) -> tuple[_Tracer, fx.Graph]:
    tracer = _Tracer(opened)
    try:
        with probe.quiet(root, training):
            return tracer, tracer.trace(root)
    except Exception as error:  # whatever a stranger's code raises at a value that is not there
        name = type(root.model).__name__
        raise ConfigError(
            f"cutting {name}",
            f"its forward code decides by values that exist only when it runs ({_line(error)})",
            f"move that code into a submodule between two cuts, or write {name} as nn.Sequential",
        ) from error


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _follow_mode(model: nn.Module, graph: fx.Graph, training: fx.Graph) -> None:
    """Let the graph read the mode where `training=self.training` would have been frozen."""
    with graph.inserting_before(next(iter(graph.nodes)).next):
        mode = graph.create_node("get_attr", "training")
    here = [node for node in graph.nodes if node is not mode]
    there = list(training.nodes)
    same = [(a.op, str(a.target)) for a in here] == [(b.op, str(b.target)) for b in there]
    if not same:
        raise _another_way(model)
    for a, b in zip(here, there, strict=True):
        a.args = _united(model, a.args, b.args, mode)
        a.kwargs = _united(model, a.kwargs, b.kwargs, mode)
    if not mode.users:
        graph.erase_node(mode)


def _united(model: nn.Module, a: Any, b: Any, mode: fx.Node) -> Any:  # Any: arguments of a node
    if isinstance(a, fx.Node) and isinstance(b, fx.Node):
        return a
    if isinstance(a, tuple | list) and isinstance(b, tuple | list) and len(a) == len(b):
        return type(a)(_united(model, x, y, mode) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return {key: _united(model, a[key], b[key], mode) for key in a}
    if a is False and b is True:
        return mode
    if type(a) is type(b) and (isinstance(a, slice) or a == b):
        return a
    raise _another_way(model)


def _another_way(model: nn.Module) -> ConfigError:
    name = type(model).__name__
    return ConfigError(
        f"cutting {name}",
        "its forward code goes another way in training than in evaluation",
        "build it without auxiliary outputs, or move that code into a submodule",
    )


class _Measurer(fx.Interpreter):
    """Runs the graph and keeps what every node gave: shapes of tensors, all other values."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.found: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        self.found[n] = _Shape(tuple(value.shape)) if isinstance(value, Tensor) else value
        return value


@dataclass(frozen=True)
class _Shape:
    sizes: tuple[int, ...]


def _measure(
    root: nn.Module, graph: fx.Graph, size: int
) -> tuple[dict[fx.Node, tuple[int, ...]], dict[fx.Node, Number]]:
    """Run the graph on 2 and on 3 images: what differs follows the number of images."""
    module = fx.GraphModule(root, graph)  # has this very graph, not a copy
    runs = []
    for count in (2, 3):
        measurer = _Measurer(module)
        with probe.quiet(module):
            measurer.run(probe.images(root, size, count))
        runs.append(measurer.found)
    shapes: dict[fx.Node, tuple[int, ...]] = {}
    numbers: dict[fx.Node, Number] = {}
    for node in graph.nodes:
        two, three = (run[node] for run in runs)
        if isinstance(two, _Shape):
            if (two.sizes[:1], three.sizes) == ((2,), (3, *two.sizes[1:])):
                shapes[node] = two.sizes[1:]
        elif node.op != "output" and (found := _number(two, three)) is not None:
            numbers[node] = found
    return shapes, numbers


def _number(two: Any, three: Any) -> Number | None:  # Any: values of forward code
    if isinstance(two, torch.device):
        return Number(two)
    if type(two) is int and (two, three) == (2, 3):
        return Number(BATCH)
    if isinstance(two, tuple) and isinstance(three, tuple) and len(two) == len(three):
        parts = [_number(a, b) for a, b in zip(two, three, strict=True)]
        known = [part.value for part in parts if part is not None]
        return Number(tuple(known)) if len(known) == len(parts) else None
    plain = two is None or isinstance(two, bool | int | float | str | torch.dtype)
    return Number(two) if plain and type(two) is type(three) and two == three else None


def _crossing(
    nodes: list[fx.Node], numbers: dict[fx.Node, Number]
) -> dict[fx.Node, frozenset[fx.Node]]:
    order = {node: place for place, node in enumerate(nodes)}
    values = [node for node in nodes if node.op != "get_attr" and node not in numbers]
    ends = {node: max((order[user] for user in node.users), default=-1) for node in values}
    alive: set[fx.Node] = set()
    found = {}
    for place, node in enumerate(nodes):
        if node in ends:
            alive.add(node)
        alive = {one for one in alive if ends[one] > place}
        found[node] = frozenset(alive)
    return found
