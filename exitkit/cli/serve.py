"""`exitkit serve`: answer images over HTTP."""

import click

from exitkit.cli import output


@click.command(
    epilog=output.examples(
        "exitkit serve",
        "exitkit serve --threshold 0.9",
        "exitkit serve mate-mobilenetv2-1 --port 9000",
        "curl -F file=@image.png localhost:8000/predict",
    ),
)
@click.argument("bundle", required=False)
@click.option(
    "--threshold",
    type=float,
    help="confidence at which an image leaves, 0 to 1  [default: the bundle's own]",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="address to listen on")
@click.option("--port", default=8000, show_default=True, type=int, help="port to listen on")
@output.provider_option
def command(
    bundle: str | None, threshold: float | None, host: str, port: int, provider: str
) -> None:
    """Serve BUNDLE (the latest if none is named) on http://127.0.0.1:8000.

    Speaks the Open Inference Protocol v2, takes image files at /predict, counts at /metrics and
    has a page to try it on at /. At start it prints what its threshold reaches and costs.
    """
    from exitkit import runs
    from exitkit.serve import process
    from exitkit.serve.settings import Settings

    folder = runs.find_bundle(bundle)
    output.note(f"serving bundle {folder.name} ({folder})")
    told = Settings((folder,), host, port, threshold=threshold, provider=provider)
    process.run(told, echo=click.echo)
