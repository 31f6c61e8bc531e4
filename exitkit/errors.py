"""One tree of errors. Every message says what was asked, what was found and what to do."""

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class ExitkitError(Exception):
    """Root of all errors that exitkit raises on purpose.

    Args:
        asked: what was wanted, in the words of whoever wanted it.
        found: what stood there instead.
        do: the next step for the reader.
    """

    exit_code = 1

    def __init__(self, asked: str, found: str, do: str) -> None:
        super().__init__(f"{asked}: {found}; {do}")
        self.asked, self.found, self.do = asked, found, do

    def __reduce__(self) -> tuple[Any, ...]:  # Any: as pickle wants it
        """Let other processes be told: subclasses may have arguments of their own."""
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(
    kind: type[ExitkitError], said: tuple[object, ...], fields: dict[str, object]
) -> ExitkitError:
    error = kind.__new__(kind, *said)
    error.__dict__.update(fields)
    return error


class ConfigError(ExitkitError):
    """The request cannot be met as it was put: unknown names, contradicting options."""

    exit_code = 2


class DataError(ExitkitError):
    """A data set or an image file is not what was promised."""

    exit_code = 2


class BundleError(ExitkitError):
    """A bundle is damaged, edited, of another schema, or not there."""

    exit_code = 2


class CheckpointError(ExitkitError):
    """A run cannot be resumed or read."""

    exit_code = 2


class TrainingError(ExitkitError):
    """Training went wrong: the loss is not a number, a term has no gradient."""


class ExportError(ExitkitError):
    """A network could not be written in the form that was asked for."""


class ParityError(ExportError):
    """The exported network decides differently from the trained one.

    Args:
        asked, found, do: as every error has them.
        table: what was compared, for programs.
        rows: the same in short, for people: rows of one table.
    """

    def __init__(
        self,
        asked: str,
        found: str,
        do: str,
        table: Mapping[str, Any],  # Any: a JSON value
        rows: Sequence[Mapping[str, Any]],  # Any: numbers and words
    ) -> None:
        super().__init__(asked, found, do)
        self.table, self.rows = table, rows


class EngineError(ExitkitError):
    """A segment or a runtime failed."""


class RequestError(ExitkitError):
    """A request to the server that cannot be answered; `status` is its HTTP code."""

    exit_code = 2
    status = 400

    @property
    def retry_after(self) -> int | None:
        """Whole seconds after which to come again; None: that would change nothing."""
        return 1 if self.status == 503 else None


class BadImage(RequestError):
    """The bytes are no image that exitkit takes."""


class TooLarge(RequestError):
    """More bytes or pixels than the limit."""

    status = 413


class Overloaded(RequestError):
    """The queue is full; `retry_after_s` is the wait that its drain rate suggests."""

    status = 429

    def __init__(self, asked: str, found: str, do: str, retry_after_s: float) -> None:
        super().__init__(asked, found, do)
        self.retry_after_s = retry_after_s

    @property
    def retry_after(self) -> int:
        """As long as `retry_after_s`, and at least one."""
        return max(1, math.ceil(self.retry_after_s))


def unknown(kind: str, name: str, choices: Iterable[str], where: str = "") -> ConfigError:
    """Make the error for a name that does not exist, with the nearest one and all choices.

    Args:
        kind: what it should be a name of.
        name: what was written.
        choices: the names that there are.
        where: where it was written, if that is worth telling.
    """
    known = sorted(choices)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return ConfigError(
        f"{kind} {name!r}{where and f' ({where})'}",
        f"no such {kind}",
        f"{hint}choose one of: {', '.join(known)}",
    )
