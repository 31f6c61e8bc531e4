"""What docs/ say of methods, networks, routes, metrics and limits is what the code has."""

import re
from pathlib import Path

import pytest
import torch

from exitkit import names

DOCS = Path(__file__).parents[2] / "docs"


def rows(page: str, first: str) -> list[list[str]]:
    """The rows of the table whose heading begins with `first`, cell by cell."""
    lines = iter((DOCS / page).read_text().splitlines())
    for line in lines:
        if line.startswith(f"| {first} |"):
            break
    next(lines)  # the line under the heading
    table = []
    for line in lines:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return table


def test_the_table_of_methods_equals_the_code() -> None:
    table = {row[0].strip("`"): row[1:] for row in rows("methods.md", "name")}
    assert list(table) == list(names.METHODS)
    for name, (title, source, teaches, options, _) in table.items():
        method = names.METHODS[name]
        assert (title, source, teaches) == (method.title, method.source, method.teaches)
        written = [f"{key}={value!r}" for key, value in method.options.items()]
        assert re.findall(r"`([^`]+)`", options) == written


def test_every_network_is_in_the_table_of_costs() -> None:
    table = [row[0] for row in rows("methods.md", "network") if row[1] == "light"]
    assert table == list(names.NETWORKS)


@pytest.mark.parametrize("row", rows("methods.md", "network"), ids=lambda row: "-".join(row[:2]))
def test_costs_of_networks_equal_the_computed_ones(row: list[str]) -> None:
    from exitkit.models import build, costs

    with torch.device("meta"):
        network = build.build(row[0], classes=100, heads=row[1])
    counted = costs.count(network, 32)
    parameters = counted.parameters(counted.exits)
    assert row[2] == f"{counted.plain / 1e6:.1f} M, {counted.plain_parameters / 1e6:.3f} M"
    assert [cell for cell in row[3:] if cell] == [
        f"{macs / 1e6:.1f} M, {macs / counted.plain:.0%}, {count / 1e6:.3f} M".replace("%,", " %,")
        for macs, count in zip(counted.leaving(counted.exits), parameters, strict=True)
    ]


def test_every_kind_of_heads_is_explained() -> None:
    text = (DOCS / "methods.md").read_text()
    assert [row[0].strip("`") for row in rows("methods.md", "heads")] == list(names.HEADS)
    assert all(f"`{kind}`" in text for kind in names.HEADS)


def test_every_route_named_is_served() -> None:
    from exitkit.serve.web import about, inference, pages, predict, repository

    served = {"/openapi.json"}
    for area in (about, inference, pages, predict, repository):
        served |= {getattr(route, "path", "") for route in area.router.routes}
    cells = " ".join(row[0] for row in rows("serving.md", "route"))
    named = re.findall(r"`(?:GET|POST) ([^`]+)`", cells)
    assert len(named) == 18
    assert set(named) <= served


def test_the_table_of_metrics_equals_what_is_counted() -> None:
    from exitkit.serve.metrics import Metrics

    text = Metrics().text().decode()
    counted = set(re.findall(r"^# TYPE (exitkit_\w+)", text, re.MULTILINE))
    named = re.findall(r"exitkit_\w+", " ".join(row[0] for row in rows("serving.md", "name")))
    assert set(named) == {name for name in counted if not name.endswith("_created")}


def test_the_table_of_limits_equals_the_code() -> None:
    from exitkit.serve.limits import Limits

    table = {
        row[0].strip("`"): float(row[1].replace(",", "")) for row in rows("serving.md", "limit")
    }
    assert table == vars(Limits())


def test_the_table_of_recipes_names_every_recipe() -> None:
    files = {f"recipes/{path.name}" for path in (DOCS.parent / "recipes").glob("*.toml")}
    assert {row[0].strip("`") for row in rows("reproducing.md", "recipe")} == files


def test_the_table_of_settings_equals_the_code() -> None:
    """A setting is written as it is typed: --name where it has an option of its own."""
    import dataclasses

    from exitkit.cli.settings import written
    from exitkit.config import TrainConfig

    expected = [
        [f"`--{one.name.replace('_', '-')}`" if one.metadata["flag"] else f"`{one.name}`",
         "open" if one.default is None else written(one.default) or "none",
         one.metadata["help"]]
        for one in dataclasses.fields(TrainConfig)
    ]  # fmt: skip
    assert rows("training.md", "setting") == expected
