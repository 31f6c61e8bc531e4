"""`exitkit serve`: answer images over HTTP and gRPC."""

from pathlib import Path
from typing import Any

import click

from exitkit.cli import groups, output
from exitkit.cli.groups import option
from exitkit.serve import signals

FILE = click.Path(path_type=Path, dir_okay=False)
TOKEN = "EXITKIT_TOKEN"


@click.command(
    cls=groups.Grouped,
    epilog=output.examples(
        "exitkit serve",
        "exitkit serve --threshold 0.9",
        "exitkit serve mate-mobilenetv2-1 deep-resnet18-1 --port 9000",
        "exitkit serve --host 0.0.0.0 --token-file token --certificate cert.pem --key key.pem",
        "exitkit serve --workers 4 --limit queue=4096 --limit batch=64",
        "exitkit serve --ray --replicas 1-4 --threads 2",
        "curl -F file=@image.png localhost:8000/predict",
    ),
)
@click.argument("bundles", nargs=-1)
@groups.under(
    "What answers",
    option(
        "--threshold",
        type=float,
        help="confidence at which an image leaves, 0 to 1  [default: each bundle's own]",
    ),
    option(
        "--accuracy-floor",
        type=float,
        metavar="SHARE",
        help="under load, answer earlier before refusing, down to this accuracy on the tune split, "
        "0 to 1  [default: never]",
    ),
    option("--provider", **output.PROVIDER),
)
@groups.under(
    "Who can reach it",
    option("--host", default="127.0.0.1", show_default=True, help="address to listen on"),
    option("--port", default=8000, show_default=True, help="of HTTP; 0 takes a free one"),
    option("--grpc-port", type=int, help="of gRPC; 0 takes a free one  [default: PORT + 1]"),
    option("--no-grpc", is_flag=True, help="serve HTTP alone"),
    option(
        "--token-file",
        type=FILE,
        help=f"file with a token that every request must bring as Authorization: Bearer TOKEN; the "
        f"environment variable {TOKEN} holds one as well  [default: none]",
    ),
    option("--certificate", type=FILE, help="PEM file for TLS, with --key"),
    option("--key", type=FILE, help="PEM file of the certificate's key"),
)
@groups.under(
    "How it runs",
    option("--workers", default=1, show_default=True, help="processes that share the port"),
    option(
        "--threads",
        type=int,
        help="that compute, in each  [default: its share of the cores; on Ray 1]",
    ),
    option(
        "--limit",
        "limits",
        multiple=True,
        metavar="NAME=VALUE",
        help="what is taken in at most: queue, batch, body_bytes, connections, drain_s and others "
        "of docs/serving.md",
    ),
    option(
        "--log",
        metavar="quiet|text|json",
        default="quiet",
        show_default=True,
        help="a line for each request, on stderr; quiet: warnings and errors alone",
    ),
)
@groups.under(
    "On Ray Serve",
    option(
        "--ray",
        "on_ray",
        is_flag=True,
        help="run replicas on the Ray cluster of RAY_ADDRESS, or on one that ends with the server",
    ),
    option("--replicas", metavar="N|N-M", help="2, or 1-4 as load asks for  [default: 1]"),
    option(
        "--replica-requests",
        type=int,
        metavar="N",
        help="in hand of each replica above which there should be more of them  [default: 32]",
    ),
)
@signals.ending()  # until the server listens to them itself
def command(
    bundles: tuple[str, ...],
    port: int,
    grpc_port: int | None,
    no_grpc: bool,
    token_file: Path | None,
    limits: tuple[str, ...],
    on_ray: bool,
    replicas: str | None,
    replica_requests: int | None,
    **told: Any,  # Any: the other fields of `Settings`
) -> None:
    """Serve BUNDLES (the latest if none is named) on http://127.0.0.1:8000.

    Speaks the Open Inference Protocol v2 over HTTP and gRPC, takes image files at /predict,
    counts at /metrics and has a page to try it on at /. At start it prints what its threshold
    reaches and costs. Bundles that lie beside those that it serves can be loaded while it runs;
    SIGHUP loads again what is loaded, SIGTERM and Ctrl-C finish what was accepted.
    """
    from exitkit import runs
    from exitkit.cli import serving
    from exitkit.serve.settings import Settings

    folders = tuple(runs.find_bundle(name) for name in bundles or (None,))
    settings = Settings(
        folders,
        port=port,
        # Ray's proxies carry HTTP alone.
        grpc_port=serving.grpc_port(port, grpc_port, no_grpc or (on_ray and grpc_port is None)),
        token=serving.token(token_file, TOKEN),
        limits=serving.limits(limits),
        replicas=serving.replicas(on_ray, replicas, replica_requests),
        **told,
    )
    for folder in folders if settings.log != "json" else ():  # which writes nothing else there
        output.note(f"serving bundle {folder.name} ({folder})")
    serving.runner(settings)(settings, echo=click.echo)
