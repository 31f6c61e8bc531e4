"""`exitkit export`: write a run as a bundle that a server needs nothing else for."""

from pathlib import Path

import click

from exitkit.cli import output
from exitkit.errors import ConfigError


@click.command(
    epilog=output.examples(
        "exitkit export",
        "exitkit export --exits 2,4",
        "exitkit export mate-mobilenetv2-1 --exits 2,4 --trt",
        "exitkit export --exits 2,4 --form cascade",
        "exitkit export --precision int8 --form cascade --name small",
        "exitkit export --what backbone",
        "exitkit export --verify mate-mobilenetv2-1",
        "exitkit export --triton models --of mate-mobilenetv2-1",
    ),
)
@click.argument("run", required=False)
@click.option("--exits", metavar="2,4", help="numbers of the exits to keep  [default: all]")
@click.option(
    "--what",
    metavar="PART",
    default="network",
    show_default=True,
    help="network; leader, what a run with method ffsd ships; or backbone, the plain network "
    "without early exits",
)
@click.option(
    "--precision",
    metavar="PRECISION",
    default="float32",
    show_default=True,
    help="float32, fp16 or int8 (calibrated on the tune split)",
)
@click.option(
    "--form",
    "forms",
    metavar="FORM,...",
    help="further forms: cascade (one file that exits by itself, image by image), chain (skips "
    "a stage once all images of the batch have left), all (computes every exit)",
)
@click.option("--opset", type=int, help="ONNX operator set  [default: the exporter's own]")
@click.option("--trt", is_flag=True, help="build a TensorRT engine per segment too")
@click.option(
    "--trt-target",
    metavar="SM80,...",
    help="compute capabilities to build for instead of the GPU at hand",
)
@click.option(
    "--triton",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="write a model repository for NVIDIA's Triton there too",
)
@click.option(
    "--of", metavar="BUNDLE", help="export no run; with --triton, of a bundle that is there"
)
@click.option("--name", help="of the bundle  [default: the run's, or RUN-PART with --what]")
@click.option(
    "--no-images", is_flag=True, help="keep the images that it was proven with out of the bundle"
)
@click.option("--verify", metavar="BUNDLE", help="write nothing; check a bundle on this machine")
@output.provider_option
@output.json_option
def command(
    run: str | None,
    exits: str | None,
    what: str,
    precision: str,
    forms: str | None,
    opset: int | None,
    trt: bool,
    trt_target: str | None,
    triton: Path | None,
    of: str | None,
    name: str | None,
    no_images: bool,
    verify: str | None,
    provider: str,
    as_json: bool,
) -> None:
    """Write RUN (the latest if none is named) as a bundle: one ONNX file per kept exit.

    The bundle appears only when it decides like the trained network, image by image, starting
    from encoded image files. bundles/latest then points to it. Heads that are not kept are not
    run and not paid; `--exits 2` alone is a static network cut at exit 2.

    `--verify BUNDLE` repeats that comparison on this machine, with the images and the trained
    network's answers that lie in the bundle; torch is not needed. Nor is it for `--triton DIR
    --of BUNDLE`.
    """
    if of is not None:
        _repository(of, triton, as_json)
        return
    if verify is not None:
        _verify(verify, provider, as_json)
        return
    if provider != "cpu":
        raise ConfigError(f"--provider {provider}", "is for --verify", "leave it out")
    kept = _numbers(exits)
    targets = None if trt_target is None else tuple(trt_target.split(","))
    from exitkit import runs
    from exitkit.cli import exporting, verifying
    from exitkit.export import package

    found = runs.find(run)
    output.note(f"exporting run {found.name} ({found.folder})")
    with verifying.told():
        report = package.export(
            found,
            exits=kept,
            what=what,
            precision=precision,
            forms=() if forms is None else tuple(forms.split(",")),
            opset=opset,
            trt=trt,
            trt_target=targets,
            triton=triton,
            name=name,
            images=not no_images,
            progress=output.note,
        )
    output.result(exporting.exported(report), as_json)


def _refuse_others(option: str, *allowed: str) -> None:
    """Refuse what was typed beside an option with which no run is exported."""
    given = click.get_current_context()
    others = [
        name
        for name in given.params
        if name not in (*allowed, "as_json")
        and given.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT
    ]
    if others:
        found = f"no run is exported, so {others[0]} has no meaning"
        raise ConfigError(option, found, "leave it out")


def _repository(bundle: str, folder: Path | None, as_json: bool) -> None:
    if folder is None:
        raise ConfigError(f"--of {bundle}", "names no folder to write", "add --triton DIR")
    _refuse_others("--of", "of", "triton")
    from exitkit import runs
    from exitkit.export import triton

    found = runs.find_bundle(bundle)
    output.note(f"making a Triton model repository of bundle {found.name} ({found})")
    triton.of_bundle(found, folder)
    table = {"bundle": found.name, "folder": str(found), "triton": str(folder)}
    output.result(output.Outcome(table, f"Triton model repository: {folder}"), as_json)


def _verify(bundle: str, provider: str, as_json: bool) -> None:
    _refuse_others("--verify", "verify", "provider")
    from exitkit import runs
    from exitkit.cli import verifying
    from exitkit.export import verify

    with verifying.told():
        found = verify.verify(runs.find_bundle(bundle), provider)
    output.result(verifying.verified(found), as_json)


def _numbers(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ConfigError(f"--exits {text}", "is no list of numbers", "write --exits 2,4") from None
