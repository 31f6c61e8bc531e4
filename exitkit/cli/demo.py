"""`exitkit demo`: the whole line on real images, in minutes."""

import click

from exitkit.cli import output


@click.command(epilog=output.examples("exitkit demo", "exitkit demo --json"))
@click.option("--epochs", type=click.IntRange(1), help="passes over the training images")
@click.option("--width", type=float, help="multiplier of the network's channels")
@click.option("--seed", default=0, show_default=True, help="of the training")
@output.json_option
def command(epochs: int | None, width: float | None, seed: int, as_json: bool) -> None:
    """Train, export, serve, ask over HTTP and report, on handwritten digits; no download.

    Leaves a run in runs/, bundles in bundles/ and a report, for the other commands to go on with.
    """
    from exitkit.cli import demonstration

    output.result(demonstration.run(epochs, width, seed), as_json)
