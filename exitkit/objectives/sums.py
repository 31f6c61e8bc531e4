"""How objectives add up: `pskd+byot` is both, on one network and one set of labels."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from exitkit.errors import ConfigError
from exitkit.objectives.base import Flow, Objective, Reads
from exitkit.records import Batch, Clock, Labels, Outputs, ParamGroup, Pass


class Sum(Objective):
    """Several objectives as one: labels are folded through all, everything else is united.

    Names of terms, passes, observations and parameter groups get the part's name and a slash in
    front. A part that proposes weights of the exits speaks first, then the one that decides them,
    so that others may change what it decided; the rest follow from left to right.

    Args:
        parts: name -> objective, in the order in which they were written.

    Raises:
        ConfigError: two parts decide the weights of the exits.
    """

    def __init__(self, parts: Mapping[str, Objective]) -> None:
        nn.Module.__init__(self)  # a sum needs no blueprint of its own
        deciders = [name for name, part in parts.items() if part.sets_weights]
        if len(deciders) > 1:
            raise ConfigError(
                f"sum {'+'.join(parts)}",
                f"{' and '.join(repr(name) for name in deciders)} each decide how much every "
                "exit's labels weigh",
                "keep one of them",
            )
        self.teaches = "all" if any(part.teaches == "all" for part in parts.values()) else "deepest"
        self.views = max(part.views for part in parts.values())
        self.reads = frozenset[Reads]().union(*(part.reads for part in parts.values()))
        self.sets_weights = bool(deciders)
        self.parts = nn.ModuleDict(dict(parts))

    def _parts(self) -> dict[str, Objective]:
        return {name: part for name, part in self.parts.items() if isinstance(part, Objective)}

    def flows(self) -> dict[str, Flow]:
        """Return the flow tables of all parts, names prefixed."""
        return {
            f"{name}/{term}": replace(
                flow, modules=tuple(f"parts.{name}.{module}" for module in flow.modules)
            )
            for name, part in self._parts().items()
            for term, flow in part.flows().items()
        }

    def passes(self, batch: Batch, clock: Clock) -> dict[str, Pass]:
        """Ask for the passes of all parts."""
        return {
            f"{name}/{wanted}": run
            for name, part in self._parts().items()
            for wanted, run in part.passes(batch, clock).items()
        }

    def supervise(self, labels: Labels, batch: Batch, clock: Clock) -> Labels:
        """Fold the labels through the parts, those that propose or decide the weights first."""
        for part in sorted(self._parts().values(), key=_turn):
            labels = part.supervise(labels, batch, clock)
        return labels

    def terms(self, out: Outputs, labels: Labels, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return the terms of all parts."""
        return {
            f"{name}/{term}": value
            for name, part in self._parts().items()
            for term, value in part.terms(_own(out, name), labels, batch, clock).items()
        }

    def after_step(self, out: Outputs, batch: Batch, clock: Clock) -> None:
        """Let every part remember what it needs."""
        for name, part in self._parts().items():
            part.after_step(_own(out, name), batch, clock)

    def observe(self) -> dict[str, float]:
        """Return what all parts have seen."""
        return {
            f"{name}/{seen}": value
            for name, part in self._parts().items()
            for seen, value in part.observe().items()
        }

    def param_groups(self) -> list[ParamGroup]:
        """Return the parameters of all parts."""
        return [
            replace(group, name=f"{name}/{group.name}")
            for name, part in self._parts().items()
            for group in part.param_groups()
        ]


def _turn(part: Objective) -> int:
    if part.proposes_weights:
        return 0
    return 1 if part.sets_weights else 2


def _own(out: Outputs, name: str) -> Outputs:
    """Return the outputs as the part `name` sees them: its own passes under its own names."""
    prefix = f"{name}/"
    own = {k.removeprefix(prefix): v for k, v in out.passes.items() if k.startswith(prefix)}
    return Outputs(out.main, own)
