"""`exitkit train`: train a network with exits; the run lands in runs/."""

from pathlib import Path
from typing import Any

import click

from exitkit.cli import output, settings

HELP = f"""Train a network with exits.

Without options: MATE on MobileNetV2 and the handwritten digits inside scikit-learn. The run
lands in runs/NAME, runs/latest points to it. Ctrl-C keeps every finished epoch.

Settings without an option of their own, for --set: {settings.others()}.
"""


@click.command(
    help=HELP,
    epilog=output.examples(
        "exitkit train --method mate --arch mobilenetv2",
        "exitkit train --method 'pskd(alpha=0.8)+byot' --arch resnet18 --data cifar100 --download",
        "exitkit train --data photos --image-size 64 --epochs 30 --set nesterov=true",
        "exitkit train --recipe my.toml --name second",
        "exitkit train --resume",
    ),
)
@settings.options
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="any other setting")
@click.option(
    "--recipe",
    type=click.Path(path_type=Path, dir_okay=False),
    help="settings from a flat TOML file; options override it",
)
@click.option("--name", help="of the run  [default: METHOD-ARCH-NUMBER]")
@click.option(
    "--resume",
    is_flag=False,
    flag_value="latest",
    metavar="[NAME]",
    help="go on with a run, the latest if none is named",
)
@click.option("--download", is_flag=True, help="fetch the data set from its home page")
@output.json_option
def command(
    assignments: tuple[str, ...],
    recipe: Path | None,
    name: str | None,
    resume: str | None,
    download: bool,
    as_json: bool,
    **typed: Any,  # Any: one text per generated option
) -> None:
    """Parse the settings, train, print what each exit has learned."""
    from exitkit.cli import training

    given = settings.given(recipe, assignments, typed)
    session = training.begin(given, name=name, resume=resume, download=download)
    training.watch(session)
    output.result(training.summary(session), as_json)
