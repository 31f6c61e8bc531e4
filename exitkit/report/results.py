"""Measured figures in documents: tracked rows in, Markdown out.

    python -m exitkit.report.results

reads results/*.jsonl, writes docs/results.md, and puts the first table into README.md between
its two marks. Nothing is measured here. A row is one flat JSON object; all rows carry

    benchmark   which question it answers: the table it stands in
    commit, seed, machine   what it was measured with (machine: see exitkit.machine.describe)

and whatever the question asks for. A row that could not be measured says why in `not_measured`.
"""

import json
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import exitkit
from exitkit.atomic import write_text
from exitkit.errors import ConfigError, DataError
from exitkit.report import tables
from exitkit.report.benchmarks import SEEDS, TABLES, Table
from exitkit.report.tables import Column, Value

Found = Mapping[str, Any]  # Any: a row as JSON holds it
ROOT = Path(exitkit.__file__).resolve().parents[1]
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
CONDITIONS = ("benchmark", "commit", "seed", "machine", "time_s", "schema", "not_measured")
EMPTY = "No measurements are tracked yet."


def read(folder: Path) -> list[Found]:
    """Read every row of a folder's *.jsonl files, in the order of their names.

    Raises:
        DataError: a line that is no JSON object, or that lacks a benchmark, commit or machine.
    """
    rows = []
    for path in sorted(folder.glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if line.strip():
                rows.append(_row(line, f"{path.name}, line {number}"))
    return rows


def _row(line: str, where: str) -> Found:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(where, f"no JSON ({error})", "measure it again") from error
    missing = {"benchmark", "commit", "machine"} - set(row if isinstance(row, dict) else ())
    if missing:
        raise DataError(where, f"lacks {', '.join(sorted(missing))}", "measure it again")
    found: Found = row
    return found


def render(rows: Sequence[Found]) -> str:
    """Return docs/results.md: one section per benchmark, each with its conditions."""
    names = [*TABLES, *sorted({row["benchmark"] for row in rows} - set(TABLES))]
    parts = [
        "# Results",
        "Rendered by `make results` from the rows in `results/`; edit neither by hand.",
    ]
    for name in names:
        own = [row for row in rows if row["benchmark"] == name]
        parts += _section(name, own) if own else []
    return "\n\n".join(parts if rows else [*parts, EMPTY]) + "\n"


def readme(rows: Sequence[Found]) -> str:
    """Return what stands between README's marks: the table of the whole line."""
    own = [row for row in rows if row["benchmark"] == "line"]
    if not own:
        return EMPTY
    return f"{_table(TABLES['line'], own)}\n\n{_conditions(own)}"


def insert(text: str, block: str) -> str:
    """Return a document with `block` between its marks.

    Raises:
        ConfigError: the marks are missing or turned round.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ConfigError("results in README.md", "its marks are missing", f"put {BEGIN} {END} in")
    return f"{before}{BEGIN}\n{block}\n{END}{after}"


def _section(name: str, rows: Sequence[Found]) -> list[str]:
    table = TABLES.get(name) or Table(name, "", _columns(rows))
    unmeasured = sorted({str(row["not_measured"]) for row in rows if "not_measured" in row})
    measured = [row for row in rows if "not_measured" not in row]
    parts = [f"## {table.title}", table.text]
    parts += [_table(table, measured)] if measured else []
    parts += [f"Not measured: {why}." for why in unmeasured]
    return [part for part in [*parts, _conditions(rows)] if part]


def _columns(rows: Sequence[Found]) -> tuple[Column, ...]:
    """Return a column for every plain value that rows of an unknown benchmark have."""
    keys = dict.fromkeys(
        key
        for row in rows
        for key, value in row.items()
        if key not in CONDITIONS and isinstance(value, str | int | float)
    )
    return tuple(Column(key, key.replace("_", " ")) for key in keys)


def _table(table: Table, rows: Sequence[Found]) -> str:
    shown = _means(table, rows) if table.averaged else rows
    return tables.markdown(shown, table.columns)


def _means(table: Table, rows: Sequence[Found]) -> list[dict[str, Value]]:
    """Join rows that differ in their seed only; more than one seed gives mean ± deviation."""
    groups: dict[tuple[object, ...], list[Found]] = {}
    fixed = [column for column in table.columns if column.key not in table.averaged]
    for row in rows:
        groups.setdefault(tuple(row.get(c.key) for c in fixed), []).append(row)
    return [_mean(table, group) for group in groups.values()]


def _mean(table: Table, rows: Sequence[Found]) -> dict[str, Value]:
    joined: dict[str, Value] = {**rows[0], SEEDS: len(rows)}
    if len(rows) > 1:
        for column in (c for c in table.columns if c.key in table.averaged):
            values = [float(row[column.key]) for row in rows if row.get(column.key) is not None]
            if values:
                joined[column.key] = _spread(column, values)
    return joined


def _spread(column: Column, values: Sequence[float]) -> str:
    if len(values) == 1:
        return format(values[0], column.form)
    mean, deviation = statistics.fmean(values), statistics.stdev(values)
    return f"{format(mean, column.form)} ± {format(deviation, column.form)}"


def _conditions(rows: Sequence[Found]) -> str:
    seeds = sorted({str(row["seed"]) for row in rows if "seed" in row})
    facts = [
        _listed("machine", (_machine(row["machine"]) for row in rows)),
        _listed("commit", (f"`{str(row['commit'])[:10]}`" for row in rows if row["commit"])),
        f"seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}" if seeds else "",
    ]
    return f"Conditions: {'; '.join(fact for fact in facts if fact)}."


def _machine(machine: Mapping[str, Any]) -> str:
    versions = [f"{k} {machine[k]}" for k in ("torch", "onnxruntime") if k in machine]
    return ", ".join([f"{machine.get('cpu', 'unknown')}, {machine.get('cores')} cores", *versions])


def _listed(name: str, values: Iterable[str]) -> str:
    found = list(dict.fromkeys(values))
    return f"{name} {' and '.join(found)}" if found else ""


def main() -> None:
    """Rewrite docs/results.md and README.md of the checkout."""
    rows = read(ROOT / "results")
    write_text(ROOT / "docs" / "results.md", render(rows))
    page = ROOT / "README.md"
    write_text(page, insert(page.read_text(encoding="utf-8"), readme(rows)))
    sys.stderr.write(f"rendered {len(rows)} rows\n")


if __name__ == "__main__":
    main()
