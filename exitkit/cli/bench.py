"""`exitkit bench`: what a bundle costs on this machine."""

import click

from exitkit.cli import output


@click.command(
    epilog=output.examples(
        "exitkit bench",
        "exitkit bench mate-mobilenetv2-1",
        "exitkit bench --batch-sizes 1,8,64 --json",
    ),
)
@click.argument("bundle", required=False)
@click.option("--batch-sizes", default="1,8,32", show_default=True, help="images at once")
@click.option(
    "--rounds", default=7, show_default=True, type=click.IntRange(1), help="to take the median of"
)
@output.provider_option
@output.json_option
def command(
    bundle: str | None, batch_sizes: str, rounds: int, provider: str, as_json: bool
) -> None:
    """Measure BUNDLE (the latest if none is named): milliseconds per segment and batch size.

    Writes the table beside the bundle, as NAME.costs.json (NAME.costs-cuda.json and so on for
    another provider than the processor), with a fingerprint of this machine.
    Prints the engine's measured time against the limit (every segment at just the images that
    reach it) and against the network with all segments and no exit.
    """
    from exitkit import runs
    from exitkit.cli import benching

    folder = runs.find_bundle(bundle)
    output.note(f"measuring bundle {folder.name} ({folder})")
    found = benching.bench(folder, benching.sizes(batch_sizes), rounds, provider)
    output.result(found, as_json)
