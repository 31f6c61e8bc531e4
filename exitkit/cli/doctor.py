"""`exitkit doctor`: what is installed, what works, and how to mend what does not."""

import click

from exitkit.cli import output


@click.command(epilog=output.examples("exitkit doctor", "exitkit doctor --json"))
@output.json_option
def command(as_json: bool) -> None:
    """Try every part for real and name the one command that mends each that does not work."""
    from exitkit.cli import checkup

    output.result(checkup.outcome(checkup.run()), as_json)
