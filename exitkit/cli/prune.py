"""`exitkit prune`: a smaller network from a trained one; the new run lands in runs/."""

from typing import TYPE_CHECKING, Any

import click

from exitkit.cli import output
from exitkit.cli.output import Outcome
from exitkit.report import tables
from exitkit.report.tables import Column, Row

if TYPE_CHECKING:
    from exitkit.runs import Run

COLUMNS = (
    Column("exit", "exit"),
    Column("mmacs_before", "MACs, M", ",.2f"),
    Column("mmacs", "pruned", ",.2f"),
    Column("share", "left", ".0%"),
    Column("kparameters_before", "parameters, k", ",.0f"),
    Column("kparameters", "pruned", ",.0f"),
    Column("accuracy_before", "accuracy", ".2%"),
    Column("accuracy_pruned", "just pruned", ".2%"),
    Column("accuracy", "trained again", ".2%"),
)


@click.command(
    epilog=output.examples(
        "exitkit prune",
        "exitkit prune --ratio 0.3 --epochs 5",
        "exitkit prune mate-mobilenetv2-1 --ratio 0.5 --lr 0.02 --set schedule=cosine",
        "exitkit prune --epochs 0 --json",
    ),
)
@click.argument("run", required=False)
@click.option(
    "--ratio",
    type=float,
    default=0.5,
    show_default=True,
    help="share of the channels that goes, of every layer",
)
@click.option(
    "--epochs", type=int, help="of training afterwards, or 0  [default: a quarter of the run's]"
)
@click.option("--lr", type=float, help="learning rate  [default: a tenth of the run's]")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="another setting")
@click.option("--name", help="of the new run  [default: made from the old one's]")
@output.json_option
def command(
    run: str | None,
    ratio: float,
    epochs: int | None,
    lr: float | None,
    assignments: tuple[str, ...],
    name: str | None,
    as_json: bool,
) -> None:
    """Cut channels out of RUN (the latest if none is named) and train what is left.

    The result is a new run, which export, evaluate, report and serve treat like any other. It
    keeps data, method and settings of the old one, which stays as it is. A network whose channels
    cannot be followed is refused, with the reason. Needs the extra `prune`.
    """
    from exitkit import runs
    from exitkit.cli import settings, training
    from exitkit.train import prune

    given = settings.given(None, assignments, {"lr": lr})
    found = runs.find(run)
    output.note(f"pruning run {found.name} ({found.folder})")
    session = prune.prepare(found, ratio=ratio, epochs=epochs, name=name, given=given)
    if epochs == 0:
        for line in session.notes:
            output.note(line)
        prune.keep(session)
    else:
        training.watch(session)
    columns = COLUMNS if epochs != 0 else COLUMNS[:-1]
    table = prune.compared(session.files)
    output.result(_outcome(session.files, table, columns), as_json)


def _outcome(
    run: "Run", table: dict[str, Any], columns: tuple[Column, ...]
) -> Outcome:  # Any: JSON values
    rows: list[Row] = [
        {
            **row,
            "mmacs_before": row["macs_before"] / 1e6,
            "mmacs": row["macs"] / 1e6,
            "share": row["macs"] / row["macs_before"],
            "kparameters_before": row["parameters_before"] / 1e3,
            "kparameters": row["parameters"] / 1e3,
        }
        for row in table["exits"]
    ]
    before, after = table["plain_macs_before"] / 1e6, table["plain_macs"] / 1e6
    left = table["channels"] / table["channels_before"]
    words = [
        f"run {run.name}: run {table['run']} with {left:.0%} of its channels and "
        f"{after / before:.0%} of its multiply-adds, on the {table['images']} images of the "
        f"{table['split']} split",
        "",
        tables.text(rows, columns),
        "",
        f"without early exits: {before:,.2f} M multiply-adds before, {after:,.2f} M now",
        f"next: exitkit export {run.name}",
    ]
    kept = (
        "run", "network", "ratio", "sets", "sets_whole", "channels_before", "channels", "split",
        "images",
    )  # fmt: skip
    told = {
        "run": run.name,
        "folder": str(run.folder),
        "pruned_from": {key: table[key] for key in kept},
        "plain_macs_before": table["plain_macs_before"],
        "plain_macs": table["plain_macs"],
        "exits": table["exits"],
    }
    return Outcome(told, "\n".join(words))
