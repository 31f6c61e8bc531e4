"""`exitkit models`: the networks, and what each of their exits costs."""

import click

from exitkit import names
from exitkit.cli import output


@click.command(
    epilog=output.examples(
        "exitkit models", "exitkit models --heads bottle", "exitkit models --classes 100 --json"
    ),
)
@click.option("--classes", default=10, show_default=True, type=click.IntRange(2), help="labels")
@click.option(
    "--heads",
    type=click.Choice(list(names.HEADS)),
    default="light",
    show_default=True,
    help="kind of the exits' heads; exitkit methods NAME says that of a method's paper",
)
@click.option(
    "--width", default=1.0, show_default=True, help="multiplier of every layer's channels"
)
@click.option("--image-size", default=32, show_default=True, help="pixels per side")
@output.json_option
def command(classes: int, heads: str, width: float, image_size: int, as_json: bool) -> None:
    """List the networks with the multiply-adds and parameters of leaving at each exit.

    All heads on the way to an exit are counted, and beside it the network cut there with that
    head alone, as papers count it. Networks whose early exits cost more than the whole plain
    network are named.
    """
    from exitkit.cli import cards

    output.result(cards.models(classes, heads, width, image_size), as_json)
