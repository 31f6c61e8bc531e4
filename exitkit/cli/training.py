"""What `exitkit train` does around a session: begin or resume, watch, sum up."""

from collections.abc import Mapping
from typing import Any

import click

from exitkit import journal
from exitkit.cli import output
from exitkit.cli.output import Outcome
from exitkit.cli.progress import Progress
from exitkit.config import TrainConfig, parse
from exitkit.errors import ConfigError
from exitkit.policy import metrics
from exitkit.report import tables
from exitkit.report.collect import EXIT_COLUMNS
from exitkit.runs import Run
from exitkit.scores import Scores, load
from exitkit.train import session as sessions
from exitkit.train.session import Session

INTERRUPTED = 130


def begin(
    given: Mapping[str, Any], *, name: str | None, resume: str | None, download: bool
) -> Session:
    """Return a session: a new one, or the one of a run that was interrupted.

    Raises:
        ConfigError: settings or a name beside --resume; a resumed run has its own.
    """
    if resume is None:
        config = parse(dict(given), "the command line")
        if config.data != TrainConfig.data:
            output.note(
                f"data {config.data}: reading, images are decoded once and kept; "
                "--data chooses another"
            )
        return sessions.prepare(config, name=name, download=download)
    told = [*(f"--{key.replace('_', '-')}" for key in given), *(["--name"] if name else [])]
    if told:
        raise ConfigError(
            f"--resume with {', '.join(told)}",
            "a run goes on with the settings it began with",
            "leave them out, or train a new run",
        )
    return sessions.resume(None if resume == "latest" else resume, download=download)


def watch(session: Session) -> None:
    """Train to the end, showing every epoch; Ctrl-C ends the program with exit code 130."""
    for line in session.notes:
        output.note(line)
    output.note(f"run {session.files.name} ({session.files.folder})")
    progress = Progress(session.card.exits, session.progress)
    try:
        with progress:
            for record in session.run():
                progress.show(record)
    except KeyboardInterrupt:
        # Wherever it arrives: in the session, which has noted it, or while a line is written.
        output.note(f"stopped. {session.how_to_resume()}")
        click.get_current_context().exit(INTERRUPTED)


def summary(session: Session) -> Outcome:
    """Return the accuracy of every exit of the selected weights, and what to do next."""
    run, card = session.files, session.card
    rows, seen = _rows(run), _observations(run)
    table = {
        "run": run.name,
        "folder": str(run.folder),
        "method": card.method,
        "arch": card.arch,
        "data": session.data.name,
        "epochs": session.config.epochs,
        "images": len(session.data.tune),
        "exits": rows,
        "observations": seen,
        "plain_macs": card.plain_macs,
    }
    if not rows:  # the papers' protocol may hold nothing out, and then nothing can be exported
        words = f"run {run.name}: no images were held out\nnext: exitkit evaluate"
        return Outcome(table, words)
    heading = f"run {run.name}: every exit on the {len(session.data.tune)} images of the tune split"
    shown = tables.text(rows, EXIT_COLUMNS)
    told = [f"seen in the last epoch: {_told(seen)}", ""] if seen else []
    return Outcome(table, "\n".join([heading, "", shown, "", *told, _next(card.exits)]))


def _rows(run: Run) -> list[dict[str, float | int]]:
    path = run.scores("tune")
    return metrics.per_exit(_scores(run)) if path.exists() else []


def _scores(run: Run) -> Scores:
    return load(run.scores("tune"), "tune")


def _observations(run: Run) -> dict[str, float]:
    """Return what the method has seen in the last epoch."""
    epochs = journal.epochs(run.journal)
    return dict(epochs[-1].get("observations", {})) if epochs else {}


def _told(seen: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in seen.items())


def _next(exits: tuple[int, ...]) -> str:
    """Suggest an export of two exits: one in the middle and the deepest."""
    if len(exits) < 2:
        return "next: exitkit export"
    return f"next: exitkit export --exits {exits[(len(exits) - 1) // 2]},{exits[-1]}"
