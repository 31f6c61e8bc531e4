"""What `methods` and `models` know: cards of objectives, costs of networks."""

import textwrap
from dataclasses import asdict
from typing import Any

from exitkit import names
from exitkit.cli.output import Outcome
from exitkit.report import tables
from exitkit.report.tables import Column, Row

METHODS = (
    Column("name", "method"),
    Column("teaches", "teaches"),
    Column("title", "what it does; its source; its options and their defaults"),
)
WIDE = 84  # characters of the last column of METHODS, where options are broken into lines
OPTIONS = (Column("name", "option"), Column("default", "default"), Column("help", "what it is"))
FLOW = (
    Column("term", "term"),
    Column("exits", "reaches exits"),
    Column("hidden", "hidden outputs"),
    Column("modules", "own modules"),
)
REACHED = {
    "all": "all",
    "shallow": "all but the deepest",
    "middle": "all but shallowest and deepest",
    "shallower": "all but the two deepest",
    "deepest": "the deepest",
    "none": "none",
}
# In millions; "alone" is the plain network cut at the exit, as papers count it.
COSTS = (
    Column("name", "network"),
    Column("exit", "exit"),
    Column("macs", "MACs, M", ",.1f"),
    Column("share", "of plain", ".0%"),
    Column("parameters", "parameters, M", ",.3f"),
    Column("macs_alone", "alone: MACs, M", ",.1f"),
    Column("parameters_alone", "parameters, M", ",.3f"),
)


def methods() -> Outcome:
    """List the objectives."""
    told = [{"name": name, **asdict(one)} for name, one in names.METHODS.items()]
    rows = [row for name, one in names.METHODS.items() for row in _listed(name, one)]
    words = (
        f"{tables.text(rows, METHODS)}\n\n"
        "They add up: --method 'pskd(alpha=0.8)+byot'. One card: exitkit methods mate"
    )
    return Outcome({"methods": told}, words)


def _listed(name: str, one: names.Method) -> list[Row]:
    """Return a method's lines of the list: title, source, options."""
    options = " ".join(f"{option}={_short(value)}" for option, value in one.options.items())
    more = [one.source, *textwrap.wrap(options, WIDE)]
    first: Row = {"name": name, "teaches": one.teaches, "title": one.title}
    return [first, *({"title": f"  {line}"} for line in more)]


def method(name: str) -> Outcome:
    """Return the card of one objective: options, equations, where each term's gradient goes."""
    from exitkit.objectives import build

    card = build.describe(name)
    options: list[Row] = [
        {"name": option, "default": _short(told["default"]), "help": told["help"]}
        for option, told in card["options"].items()
    ]
    flow: list[Row] = [
        {
            **row,
            "exits": REACHED[row["exits"]],
            "modules": ", ".join(row["modules"]) or "none",
        }
        for row in card["flow"]
    ]
    told = f"teaches {_taught(card)}; --heads paper: {card['heads']}"
    parts = [f"{card['name']}: {card['title']}\n{card['source']}\n{told}"]
    if options:
        parts.append(f"Options, as in {name}({_example(card)})\n{tables.text(options, OPTIONS)}")
    if flow:
        parts.append(f"Gradient of each term\n{tables.text(flow, FLOW)}")
    parts += [f"{heading}\n{_indented(text)}" for heading, text in card["sections"].items()]
    return Outcome(card, "\n\n".join(parts))


def models(classes: int, heads: str, width: float, image_size: int) -> Outcome:
    """Count every network: multiply-adds and parameters of leaving at each exit."""
    found = [_model(arch, classes, heads, width, image_size) for arch in names.NETWORKS]
    settings = {"classes": classes, "heads": heads, "width": width, "image_size": image_size}
    words = [
        f"{classes} classes, {image_size}x{image_size} pixels, heads {heads}, width {width:g}; "
        "computed: multiply-adds of",
        "one image that leaves at an exit, all heads on the way counted; then of the network cut "
        "there with",
        "that head alone, which at the deepest exit is the plain network",
        "",
        tables.text([row for one in found for row in _rows(one)], COSTS),
        "",
        *(f"{one['name']}: {one['title']}" for one in found),
        "",
        "Networks from elsewhere: exitkit train --arch torchvision:NAME --at PLACE,PLACE (or timm:",
        "NAME, python:MODULE:FUNCTION)",
    ]
    warnings = [f"{one['name']}: warning: {one['warning']}" for one in found if one["warning"]]
    words += ["", *warnings] if warnings else []
    return Outcome({**settings, "models": found}, "\n".join(words))


def _model(
    arch: str, classes: int, heads: str, width: float, image_size: int
) -> dict[str, Any]:  # Any: JSON values
    import torch

    from exitkit.models import build, costs

    stem = names.usual_stem(arch, image_size)
    with torch.device("meta"):  # nothing is drawn, nothing will be computed
        network = build.build(arch, classes, image_size, heads, width, stem=stem)
    counted = costs.count(network, image_size)
    leaving, parameters = counted.leaving(counted.exits), counted.parameters(counted.exits)
    return {
        "name": arch,
        "title": names.NETWORKS[arch].title,
        "stem": stem,
        "plain_macs": counted.plain,
        "plain_parameters": counted.plain_parameters,
        "trained_parameters": parameters[-1],
        "exits": [
            {
                "exit": number,
                "macs": leaving[i],
                "share": leaving[i] / counted.plain,
                "parameters": parameters[i],
                "macs_alone": counted.alone[i],
                "parameters_alone": counted.parameters_alone[i],
            }
            for i, number in enumerate(counted.exits)
        ],
        "warning": costs.warning(counted, heads),
    }


def _rows(one: dict[str, Any]) -> list[Row]:  # Any: what `_model` returns
    """Return one network's lines of the table, in millions, named in the first."""
    millions = ("macs", "parameters", "macs_alone", "parameters_alone")
    rows: list[Row] = [
        {**exit, **{key: exit[key] / 1e6 for key in millions}} for exit in one["exits"]
    ]
    stem = "" if one["stem"] == "cifar" else f", {one['stem']} stem"
    return [{**rows[0], "name": one["name"] + stem}, *rows[1:]]


def _short(default: object) -> str:
    """Return a default as it is written, to four digits: 80 / 300 has sixteen."""
    return repr(float(f"{default:.4g}") if isinstance(default, float) else default)


def _taught(card: dict[str, Any]) -> str:
    return "every exit" if card["teaches"] == "all" else "the deepest exit only"


def _example(card: dict[str, Any]) -> str:
    option, told = next(iter(card["options"].items()))
    return f"{option}={told['default']!r}"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())
