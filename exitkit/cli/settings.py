"""The options of `exitkit train`, made from the fields of TrainConfig."""

import dataclasses
import types
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from exitkit.config import TrainConfig, parse, read_recipe
from exitkit.errors import ConfigError

Command = TypeVar("Command", bound=Callable[..., Any])


def flags() -> list[dataclasses.Field[Any]]:
    """Return the settings that have an option of their own."""
    return [field for field in dataclasses.fields(TrainConfig) if field.metadata["flag"]]


def options(command: Command) -> Command:
    """Give a command one option for each of those settings, in their order."""
    hints = typing.get_type_hints(TrainConfig)
    for field in reversed(flags()):
        kind = _kind(hints[field.name])
        default = {None: "the data set's", (): "none"}.get(field.default, field.default)
        text = field.metadata["help"]
        text = text if kind is bool else f"{text}  [default: {default}]"
        # An option that was not typed stays None: only what was typed overrides a recipe. The
        # value stays text: `parse` reads it, with one kind of error for flags, recipes and --set.
        command = click.option(
            f"--{field.name.replace('_', '-')}",
            field.name,
            default=None,
            help=text,
            **({"is_flag": True} if kind is bool else {"metavar": _metavar(kind)}),
        )(command)
    return command


def others() -> str:
    """Name the settings that `--set` takes, with their defaults."""
    fields = [field for field in dataclasses.fields(TrainConfig) if not field.metadata["flag"]]
    return ", ".join(f"{field.name}={written(field.default)}" for field in fields)


def given(recipe: Path | None, assignments: Iterable[str], typed: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that were given: a recipe, overridden by `--set` and by options.

    Raises:
        ConfigError: an assignment without "=", a setting given twice on the command line, an
            unknown name or a value of another type.
    """
    options = {name: value for name, value in typed.items() if value is not None}
    for text in assignments:
        name, equals, value = (part.strip() for part in text.partition("="))
        name = name.replace("-", "_")
        if not equals:
            raise ConfigError(f"--set {text}", "has no =", "write --set name=value")
        if name in options:
            raise ConfigError(f"--set {text}", f"{name} is given twice", "say it once")
        options[name] = None if value.lower() == "none" else value
    parse(options, "the command line")
    return _read(recipe) | options


def _read(recipe: Path | None) -> dict[str, Any]:
    """Read a recipe and check it alone, so that its errors name the file."""
    if recipe is None:
        return {}
    settings = read_recipe(recipe)
    parse(settings, str(recipe))
    return settings


def _kind(hint: Any) -> type:  # Any: a type hint
    """Return the type behind `X | None`."""
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return next(kind for kind in kinds if kind is not type(None))


def _metavar(kind: type) -> str:
    return "NAMES" if typing.get_origin(kind) is tuple else kind.__name__.upper()


def written(value: Any) -> str:  # Any: a setting's default
    """Return a setting's value as it is typed."""
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    return str(value).lower() if isinstance(value, bool | None) else str(value)
