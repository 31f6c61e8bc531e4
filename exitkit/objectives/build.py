"""Objectives by name: the one table of methods, and the sums that users write."""

import inspect
import sys
from typing import Any

from exitkit import names
from exitkit.errors import ConfigError, unknown
from exitkit.objectives import language
from exitkit.objectives.base import Objective, Reads, Teaches
from exitkit.objectives.byot import BeYourOwnTeacher
from exitkit.objectives.cskd import ClasswiseConsistency
from exitkit.objectives.dlb import LastMiniBatch
from exitkit.objectives.dmfl import MutualFeatures
from exitkit.objectives.dml import MutualLearning
from exitkit.objectives.drg import ReverseGuidance
from exitkit.objectives.dsr import SortedLogits
from exitkit.objectives.dtskd import DualTeachers
from exitkit.objectives.ecsd import AdaptedTeacher
from exitkit.objectives.eed import BalancedExitEnsemble, ExitEnsemble
from exitkit.objectives.ffsd import FeatureFusion
from exitkit.objectives.kdcl import CollaborativeLearning
from exitkit.objectives.loth import VirtualTeacher
from exitkit.objectives.ls import LabelSmoothing
from exitkit.objectives.mate import AttentionEnsembles
from exitkit.objectives.okddip import DiversePeers
from exitkit.objectives.one import NativeEnsemble
from exitkit.objectives.phuong import AnnealedDistillation
from exitkit.objectives.pskd import ProgressiveSelfDistillation
from exitkit.objectives.sums import Sum
from exitkit.objectives.supervised import DeepSupervision, LabelsOnly
from exitkit.objectives.tfkd import WrittenTeacher
from exitkit.objectives.zfls import ZipfSmoothing
from exitkit.records import Blueprint

OBJECTIVES: dict[str, type[Objective]] = {
    "ce": LabelsOnly,
    "deep": DeepSupervision,
    "ls": LabelSmoothing,
    "phuong": AnnealedDistillation,
    "byot": BeYourOwnTeacher,
    "ecsd": AdaptedTeacher,
    "eed": ExitEnsemble,
    "beed": BalancedExitEnsemble,
    "pskd": ProgressiveSelfDistillation,
    "dmfl": MutualFeatures,
    "mate": AttentionEnsembles,
    "loth": VirtualTeacher,
    "drg": ReverseGuidance,
    "dsr": SortedLogits,
    "ffsd": FeatureFusion,
    "dtskd": DualTeachers,
    "cskd": ClasswiseConsistency,
    "dlb": LastMiniBatch,
    "tfkd": WrittenTeacher,
    "zfls": ZipfSmoothing,
    "dml": MutualLearning,
    "kdcl": CollaborativeLearning,
    "one": NativeEnsemble,
    "okddip": DiversePeers,
}

HEADINGS = ("Source", "Idea", "Equations", "Symbols", "Differences", "Reported")


def parse(text: str) -> list[language.Part]:
    """Return the parts of a sum such as `pskd(alpha=0.8)+byot`, each with the options written.

    Raises:
        ConfigError: anything but known names, each once, with known options of the right type.
    """
    return language.read(text, OBJECTIVES)


def teaches(text: str) -> Teaches:
    """Return whether a sum teaches "all" exits or only the "deepest"."""
    parts = [OBJECTIVES[name].teaches for name, _ in parse(text)]
    return "all" if "all" in parts else "deepest"


def exits(text: str, deepest: int) -> tuple[int, ...]:
    """Return the numbers of the exits that a sum teaches, on a network with exits 1 to `deepest`.

    The option `first` of a method leaves out the exits before it.
    """
    if teaches(text) == "deepest":
        return (deepest,)
    first = max(int(options.get("first", 1)) for _, options in parse(text))
    # What is out of range the method itself refuses, seeing all exits that there are.
    return tuple(range(first if 1 <= first < deepest else 1, deepest + 1))


def heads(text: str) -> str:
    """Return the kind of heads that the papers of a sum had; light where they had none.

    Raises:
        ConfigError: two of them had different kinds.
    """
    kinds = {name: names.METHODS[name].heads for name, _ in parse(text)}
    had = {name: kind for name, kind in kinds.items() if kind is not None}
    if len(set(had.values())) > 1:
        raise ConfigError(
            f"heads of the paper for method {text!r}",
            f"the papers had different ones ({', '.join(f'{n}: {k}' for n, k in had.items())})",
            "name one kind with --heads",
        )
    return next(iter(had.values()), "light")


def reads(text: str, field: Reads) -> list[str]:
    """Return the parts of a sum that read a field of the batch themselves."""
    return [name for name, _ in parse(text) if field in OBJECTIVES[name].reads]


def build(text: str, blueprint: Blueprint) -> Objective:
    """Make the objective that a sum names; weights are drawn from torch's default generator.

    Raises:
        ConfigError: the text, an option's value, or the network does not fit; or two parts
            decide the weights of the exits.
    """
    parts = {name: OBJECTIVES[name](blueprint, **options) for name, options in parse(text)}
    if len(parts) > 1:
        return Sum(parts)
    (objective,) = parts.values()
    return objective


def describe(name: str) -> dict[str, Any]:  # Any: plain values, as JSON takes them
    """Return what there is to know about one method, as plain values.

    Keys: name, title, source, teaches, views, sets_weights, heads (what `--heads paper` means),
    options (name -> default and help), summary (a line), sections (heading -> text), flow (one
    dict per term: term, exits, hidden, modules).
    """
    if name not in OBJECTIVES:
        raise unknown("method", name, OBJECTIVES)
    cls = OBJECTIVES[name]
    summary, _, body = (inspect.getdoc(sys.modules[cls.__module__]) or "").partition("\n")
    helps = _arguments(inspect.getdoc(cls) or "")
    return {
        "name": name,
        "title": names.METHODS[name].title,
        "source": names.METHODS[name].source,
        "teaches": cls.teaches,
        "views": cls.views,
        "sets_weights": cls.sets_weights,
        "heads": heads(name),
        "options": {
            option: {"default": default, "help": helps.get(option, "")}
            for option, default in language.options(cls).items()
        },
        "summary": summary,
        "sections": _sections(body),
        "flow": [
            {
                "term": term,
                "exits": flow.exits,
                "hidden": flow.hidden,
                "modules": list(flow.modules),
            }
            for term, flow in cls.flow.items()
        ],
    }


def _sections(body: str) -> dict[str, str]:
    """Split a method's docstring at its headings."""
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in body.splitlines():
        if line in HEADINGS:
            current = sections.setdefault(line, [])
        else:
            current.append(line)
    return {
        heading: inspect.cleandoc("\n" + "\n".join(lines)) for heading, lines in sections.items()
    }


def _arguments(doc: str) -> dict[str, str]:
    """Return what a class's docstring says of each argument, however many lines it takes."""
    found: dict[str, str] = {}
    name = ""
    for line in doc.partition("Args:\n")[2].splitlines():
        if not line.startswith("    "):
            break
        if line.startswith("     "):
            found[name] += " " + line.strip()
        else:
            name, _, found[name] = line.strip().partition(": ")
    return found
