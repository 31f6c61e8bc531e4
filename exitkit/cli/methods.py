"""`exitkit methods`: the training objectives."""

import click

from exitkit import names
from exitkit.cli import output
from exitkit.errors import ConfigError, unknown


@click.command(
    epilog=output.examples("exitkit methods", "exitkit methods mate", "exitkit methods --json"),
)
@click.argument("name", required=False)
@output.json_option
def command(name: str | None, as_json: bool) -> None:
    """List the training objectives, or print the card of the one called NAME.

    Objectives add up: `--method 'pskd(alpha=0.8)+byot'`.
    """
    from exitkit.cli import cards

    if name is None:
        output.result(cards.methods(), as_json)
        return
    if "+" in name or "(" in name:
        raise ConfigError(
            f"method {name!r}",
            "a card tells of one method, and this is a sum or has options",
            "ask for each by its name, such as exitkit methods byot",
        )
    if name not in names.METHODS:
        raise unknown("method", name, names.METHODS)
    output.result(cards.method(name), as_json)
