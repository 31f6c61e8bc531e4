"""Help that shows a command's options in groups."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


class _Option(click.Option):
    """An option that knows under which heading it is shown."""

    heading = ""


def under(heading: str, *options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return a decorator that gives a command these options, shown under one heading."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
            _last(command).heading = heading
        return command

    return decorate


def option(*names: str, **how: Any) -> Callable[[Command], Command]:  # Any: as click.option
    """Return a decorator like `click.option`, for `under`."""
    return click.option(*names, cls=_Option, **how)


class Grouped(click.Command):
    """A command whose help shows its options by heading, and those without one last."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section per heading."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if isinstance(parameter, click.Option) and record is not None:
                sections.setdefault(getattr(parameter, "heading", "Others"), []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def _last(command: Any) -> Any:  # Any: click keeps the options of a function on it
    return command.__click_params__[-1]
