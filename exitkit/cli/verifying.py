"""What `exitkit export --verify` says about a bundle that passed."""

from exitkit.cli.output import Outcome
from exitkit.export.forms.check import FormCheck
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
    Column("confidence off by", "confidence off by", ".1e"),
)


def form_row(form: FormCheck) -> tables.Row:
    """Return the table row of a form that was held against the engine."""
    return {
        "form": form.file,
        "images": form.images,
        "decisions": form.decisions,
        "near": form.near,
        "exit differs": form.exit_different,
        "label differs": form.label_different,
        "confidence off by": form.difference,
    }


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
    forms: list[tables.Row] = [form_row(form) for form in found.forms]
    words += ["", tables.text(forms, FORMS)] if forms else []
    table = {
        "bundle": found.folder.name,
        "folder": str(found.folder),
        "network": found.manifest.network,
        "parity": parity.to_json(),
        "forms": [form.to_json() for form in found.forms],
    }
    return Outcome(table, "\n".join(words))
