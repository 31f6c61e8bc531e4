"""What `exitkit export --verify` says about a bundle that passed."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from exitkit.cli import output
from exitkit.cli.output import Outcome
from exitkit.errors import ParityError
from exitkit.export.verify import Verified
from exitkit.report import tables
from exitkit.report.tables import Column

EXITS = (
    Column("exit", "exit"),
    Column("images", "images"),
    Column("logit off by", "logits off by", ".1e"),
    Column("limit", "limit", ".1e"),
    Column("top-1 differs", "top-1 differs"),
    Column("decisions", "decisions"),
    Column("near", "too near to tell"),
    Column("exit differs", "exit differs"),
    Column("label differs", "label differs"),
    Column("accuracy before", "accuracy as trained", ".2%"),
    Column("accuracy after", "here", ".2%"),
)
FORMS = (
    Column("form", "form"),
    Column("images", "images"),
    Column("decisions", "decisions"),
    Column("near", "too near to tell"),
    Column("exit differs", "exit differs"),
    Column("label differs", "label differs"),
    Column("differ, near too", "differ, near ones too"),
    Column("confidence off by", "confidence off by", ".1e"),
)


@contextmanager
def told() -> Iterator[None]:
    """Print the table of a gate that refuses on stderr, before its error."""
    try:
        yield
    except ParityError as error:
        keys = error.rows[0] if error.rows else ()
        columns = [Column(key, key, _form(error.rows, key)) for key in keys]
        output.note(tables.text(error.rows, columns))
        raise


def _form(rows: Sequence[tables.Row], key: str) -> str:
    return ".4g" if any(isinstance(row[key], float) for row in rows) else ""


def verified(found: Verified) -> Outcome:
    """Describe a bundle that decides like the trained network."""
    parity = found.parity
    eight = parity.exits[0].limits.noise is not None
    words = [
        f"bundle {found.folder.name} ({found.folder}): every file is whole, and it decides like "
        f"the trained network on {parity.images} images of the {parity.split} split",
        "",
        tables.text(parity.rows(), EXITS),
        *(["off by: error of the logits over their spread, both root mean square"] * eight),
        parity.summary,
    ]
    forms: list[tables.Row] = [form.row() for form in found.forms]
    words += ["", tables.text(forms, FORMS)] if forms else []
    table = {
        "bundle": found.folder.name,
        "folder": str(found.folder),
        "network": found.manifest.network,
        "parity": parity.to_json(),
        "forms": [form.to_json() for form in found.forms],
    }
    return Outcome(table, "\n".join(words))
