"""What `methods` and `models` know: cards of objectives, costs of networks."""

from typing import Any

from exitkit import names
from exitkit.cli.output import Outcome
from exitkit.report import tables
from exitkit.report.tables import Column, Row

METHODS = (
    Column("name", "method"),
    Column("teaches", "teaches"),
    Column("title", "what it does"),
)
OPTIONS = (Column("name", "option"), Column("default", "default"), Column("help", "what it is"))
FLOW = (
    Column("term", "term"),
    Column("exits", "reaches exits"),
    Column("hidden", "hidden outputs"),
    Column("modules", "own modules"),
)
COSTS = (
    Column("exit", "exit"),
    Column("mmacs", "MACs, M", ",.2f"),
    Column("share", "of the plain network", ".0%"),
    Column("mparameters", "parameters, M", ",.3f"),
    Column("static", "cut there alone, MACs, M", ",.2f"),
)


def methods() -> Outcome:
    """List the objectives."""
    rows: list[Row] = [
        {"name": name, "title": one.title, "source": one.source, "teaches": one.teaches}
        for name, one in names.METHODS.items()
    ]
    words = (
        f"{tables.text(rows, METHODS)}\n\n"
        "They add up: --method 'pskd(alpha=0.8)+byot'. One card: exitkit methods mate"
    )
    return Outcome({"methods": rows}, words)


def method(name: str) -> Outcome:
    """Return the card of one objective: options, equations, where each term's gradient goes."""
    from exitkit.objectives import build

    card = build.describe(name)
    options: list[Row] = [
        {"name": option, "default": str(told["default"]), "help": told["help"]}
        for option, told in card["options"].items()
    ]
    flow: list[Row] = [
        {**row, "modules": ", ".join(row["modules"]) or "none"} for row in card["flow"]
    ]
    parts = [f"{card['name']}: {card['title']}\n{card['source']}\nteaches {_taught(card)}"]
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
        "computed: multiply-adds per image of leaving at each exit, all heads on the way counted"
    ]
    for one in found:
        words += [
            "",
            f"{one['name']}: {one['title']}; without early exits {one['plain_macs'] / 1e6:,.2f} M",
            tables.text(one["exits"], COSTS),
        ]
        words += [f"warning: {one['warning']}"] if one["warning"] else []
    return Outcome({**settings, "models": found}, "\n".join(words))


def _model(
    arch: str, classes: int, heads: str, width: float, image_size: int
) -> dict[str, Any]:  # Any: JSON values
    from exitkit.models import build, costs

    network = build.build(arch, classes, image_size, heads, width)
    counted = costs.count(network, image_size)
    exits = [
        {
            "exit": number,
            "macs": macs,
            "parameters": parameters,
            "static": counted.leaving((number,))[0] / 1e6,
            "mmacs": macs / 1e6,
            "mparameters": parameters / 1e6,
            "share": macs / counted.plain,
        }
        for number, macs, parameters in zip(
            counted.exits,
            counted.leaving(counted.exits),
            counted.parameters(counted.exits),
            strict=True,
        )
    ]
    return {
        "name": arch,
        "title": names.NETWORKS[arch].title,
        "plain_macs": counted.plain,
        "exits": exits,
        "warning": costs.warning(counted),
    }


def _taught(card: dict[str, Any]) -> str:
    return "every exit" if card["teaches"] == "all" else "the deepest exit only"


def _example(card: dict[str, Any]) -> str:
    option, told = next(iter(card["options"].items()))
    return f"{option}={told['default']!r}"


def _indented(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())
