"""`exitkit runs`: what has been trained here."""

import click

from exitkit.cli import output


@click.command(epilog=output.examples("exitkit runs", "exitkit runs --json"))
@output.json_option
def command(as_json: bool) -> None:
    """List the runs in runs/: method, network, data, epochs, accuracy of every exit."""
    from exitkit.cli import history

    output.result(history.listed(), as_json)
