"""`exitkit evaluate`: what every exit knows, on one split."""

import click

from exitkit.cli import output


@click.command(
    epilog=output.examples(
        "exitkit evaluate",
        "exitkit evaluate mate-mobilenetv2-1 --split tune",
        "exitkit evaluate --json",
    ),
)
@click.argument("run", required=False)
@click.option(
    "--split",
    type=click.Choice(["test", "tune"]),
    default="test",
    show_default=True,
    help="images to judge by; tune has chosen the weights, test has not",
)
@output.json_option
def command(run: str | None, split: str, as_json: bool) -> None:
    """Print accuracy, likelihood and calibration of every exit of RUN (the latest if not named).

    A second table has the numbers that papers print, also of the ensemble (mean of all exits'
    logits) and of the oracle union (right if any exit is).

    The scores behind the tables are saved in the run, as scores-SPLIT.npz.
    """
    from exitkit import runs
    from exitkit.policy import metrics
    from exitkit.report import tables
    from exitkit.report.collect import EXIT_COLUMNS, PAPER_COLUMNS
    from exitkit.train import evaluate

    found = runs.find(run)
    output.note(f"evaluating run {found.name} ({found.folder}) on its {split} split")
    scores = evaluate.evaluate(found, split)
    rows, published = metrics.per_exit(scores), metrics.as_published(scores)
    table = {
        "run": found.name,
        "split": split,
        "images": len(scores.labels),
        "exits": rows,
        "published": published,
    }
    shown = tables.text(rows, EXIT_COLUMNS), tables.text(published, PAPER_COLUMNS)
    output.result(output.Outcome(table, "\n\n".join(shown)), as_json)
