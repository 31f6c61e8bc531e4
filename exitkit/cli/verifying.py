"""What `exitkit export --verify` says about a bundle that passed."""

from exitkit.cli.output import Outcome
from exitkit.export.verify import Verified
from exitkit.report import tables
from exitkit.report.tables import Column

EXITS = (
    Column("exit", "exit"),
    Column("images", "images"),
    Column("logit off by", "logit off by", ".1e"),
    Column("limit", "limit", ".1e"),
    Column("top-1 differs", "top-1 differs"),
    Column("decisions", "decisions"),
    Column("near", "too near to tell"),
    Column("exit differs", "exit differs"),
    Column("label differs", "label differs"),
)


def verified(found: Verified) -> Outcome:
    """Describe a bundle that decides like the trained network."""
    parity = found.parity
    words = [
        f"bundle {found.folder.name} ({found.folder}): every file is whole, and it decides like "
        f"the trained network on {parity.images} images of the {parity.split} split",
        "",
        tables.text(parity.rows(), EXITS),
    ]
    table = {
        "bundle": found.folder.name,
        "folder": str(found.folder),
        "network": found.manifest.network,
        "parity": parity.to_json(),
    }
    return Outcome(table, "\n".join(words))
