"""Tables for terminals and for documents, from the same rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SEEDS = "seeds"  # the key of the number of rows that were averaged
Value = str | int | float | bool | None
Row = Mapping[str, Value]


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        key: of the value in each row.
        heading: what stands above it, with the unit.
        form: format of numbers, as in `format(value, form)`; strings stay as they are.
    """

    key: str
    heading: str
    form: str = ""

    def cell(self, row: Row) -> str:
        """Return the row's value as text; "" where it has none."""
        value = row.get(self.key)
        if value is None:
            return ""
        if isinstance(value, bool):
            return "yes" if value else "no"
        return value if isinstance(value, str) else format(value, self.form)


@dataclass(frozen=True)
class Table:
    """How the rows of one benchmark are shown.

    Attributes:
        title: heading.
        text: what was asked, and how.
        columns: what stands in the table; a value that is no column stays in the row.
        averaged: columns whose values are means over the seeds of otherwise equal rows; with
            `SEEDS` as a column their number is shown.
    """

    title: str
    text: str
    columns: tuple[Column, ...]
    averaged: tuple[str, ...] = ()


def plain(words: str) -> str:
    r"""Return words with what a terminal would obey, or cannot show, written out.

    >>> print(plain("a\x1b[2Jb"))
    a\x1b[2Jb
    """
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in words)


def text(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """Return a table for a terminal: columns aligned, numbers to the right.

    >>> columns = [Column("exit", "exit"), Column("top1", "top-1", ".1%")]
    >>> print(text([{"exit": 2, "top1": 0.5}], columns))
    exit  top-1
       2  50.0%
    """
    cells = [[plain(column.cell(row)) for column in columns] for row in rows]
    widths = [
        max(len(column.heading), *(len(line[i]) for line in cells), 0)
        for i, column in enumerate(columns)
    ]
    right = [_numeric(rows, column) for column in columns]
    lines = [[column.heading for column in columns], *cells]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def markdown(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """Return the same table for a Markdown document."""
    rule = ["---:" if _numeric(rows, column) else "---" for column in columns]
    lines = [[column.heading for column in columns], rule]
    lines += [[column.cell(row).replace("|", "\\|") for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _numeric(rows: Sequence[Row], column: Column) -> bool:
    """Whether the column holds numbers only (bools are words)."""
    values = [row.get(column.key) for row in rows if row.get(column.key) is not None]
    return bool(values) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values
    )
