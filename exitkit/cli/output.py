"""What commands share on their way out: `--json`, examples in the help, notes on stderr."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

PROVIDER: dict[str, Any] = {  # Any: what click.option takes
    "metavar": "cpu|cuda|tensorrt|engines|torch",
    "default": "cpu",
    "show_default": True,
    "help": "what computes: ONNX Runtime with one of the first three, the bundle's own TensorRT "
    "engines, or torch with CUDA graphs of the run's network",
}
provider_option = click.option("--provider", **PROVIDER)
json_option = click.option("--json", "as_json", is_flag=True, help="print the result as JSON")


def examples(*lines: str) -> str:
    """Return an epilog that shows commands as they are typed."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


@dataclass(frozen=True)
class Outcome:
    """What a command found.

    Attributes:
        table: for programs: what JSON can hold.
        words: for people.
    """

    table: Mapping[str, Any]  # Any: JSON values
    words: str


def result(outcome: Outcome, as_json: bool) -> None:
    """Print the outcome on stdout: one JSON object, or the words."""
    if as_json:
        click.echo(json.dumps(outcome.table, indent=2, default=_plain))
    else:
        click.echo(outcome.words)


def note(text: str) -> None:
    """Say on stderr what is being done."""
    click.echo(text, err=True)


def _plain(value: Any) -> Any:  # Any: NumPy numbers and arrays, and paths
    """Turn what NumPy gives into what JSON holds."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
