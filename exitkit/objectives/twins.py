"""Other networks, or branches, of the kind that is trained: what methods with several share."""

from collections.abc import Iterable

from torch import nn

from exitkit.records import Blueprint, ParamGroup


def make(blueprint: Blueprint, count: int, from_stage: int = 1) -> nn.ModuleList:
    """Make `count` networks with fresh weights and the deepest exit alone.

    From a later stage on they are branches, which take the output of the stage before it.
    """
    deepest = len(blueprint.hidden)
    return nn.ModuleList(blueprint.build(from_stage, (deepest,)) for _ in range(count))


def groups(twins: Iterable[nn.Module], name: str, first: int) -> list[ParamGroup]:
    """Step every twin on its own, as the network is stepped; they are counted from `first`."""
    return [
        ParamGroup(f"{name}{number}", tuple(twin.parameters()), "sgd", {})
        for number, twin in enumerate(twins, start=first)
    ]
