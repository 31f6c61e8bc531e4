"""`exitkit inspect`: what a bundle holds, without loading its network."""

import click

from exitkit.cli import output


@click.command(
    epilog=output.examples(
        "exitkit inspect", "exitkit inspect mate-mobilenetv2-1", "exitkit inspect bundles/plain"
    ),
)
@click.argument("bundle", required=False)
@output.json_option
def command(bundle: str | None, as_json: bool) -> None:
    """Show what BUNDLE (the latest if none is named) holds.

    Exits with their cost, files with their sizes, precision and forms, engines and what they
    were built from, the policy, and where everything comes from. Every file's digest is checked.
    """
    from exitkit import runs
    from exitkit.cli import inspecting

    output.result(inspecting.inspected(runs.find_bundle(bundle)), as_json)
