"""From a run to a smaller one: cut its network, and go on training what is left.

The new run is one like any other. It keeps the data, the method and the other settings of the run
that it comes from; it begins with the pruned weights, which its first checkpoint holds, and with a
lower learning rate. Networks of the method's own (of `dml` or `one`, say) begin afresh, as narrow.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from exitkit import journal, runs
from exitkit.errors import ConfigError
from exitkit.objectives import preflight
from exitkit.records import Clock
from exitkit.runs import RUNS, Run
from exitkit.train import (
    assemble,
    checkpoint,
    evaluate,
    opening,
    origin,
    prune_cut,
    prune_settings,
    pruned,
)
from exitkit.train.precision import choose_device
from exitkit.train.prune_cut import Cut
from exitkit.train.session import Session


def prepare(
    run: Run,
    *,
    ratio: float,
    epochs: int | None = None,
    name: str | None = None,
    root: Path = RUNS,
    cache: Path | None = None,
    given: Mapping[str, Any] | None = None,  # Any: values of settings
) -> Session:
    """Prune a run's network and make the new run, up to its first step.

    Args:
        run: with a network; it is only read.
        ratio: share of the channels that goes, of every layer; above 0, below 1.
        epochs: of training afterwards; a quarter of the run's where not given (of the first one's
            where the run was pruned before). With 0 nothing is trained: `keep` makes the pruned
            weights the new run's network.
        name: of the new run; made from the old one's where not given.
        root: folder of the new run.
        cache: see `exitkit.data.load`.
        given: settings of the training, where they are not to be the run's own; its learning rate
            is a tenth of the run's, or the first one's, where not given.

    Raises:
        ConfigError: the ratio, a setting or the name does not fit; the network cannot be pruned.
        CheckpointError: the run cannot be read.
        DataError: its data are not there, or others than in training.
    """
    asked = prune_settings.choose(run, epochs, given or {})
    _new(run, name, root)  # a name that is taken is refused early
    device = choose_device(asked.device)
    sets = replace(origin.load(run, cache), image=run.read_card().image)
    torch.set_num_threads(asked.threads)
    cut = prune_cut.cut(run, ratio)
    parts = assemble.assemble(asked, sets, device, resumed=True)
    parts = pruned.fit(parts, asked, sets, cut.card, device)
    parts.step.network.load_state_dict(cut.network.state_dict())
    if epochs != 0:
        clock = Clock(0, asked.epochs, 0, parts.loader.steps)
        preflight.check(parts.step, parts.first_batches(), clock)
    notes = [_told(run, cut), *opening.describe(asked, sets, device), *parts.warnings]
    trainer = assemble.trainer(asked, parts, sets, device)
    session = Session(_new(run, name, root), asked, sets, cut.card, notes, trainer, parts)
    rows, told = _rows(cut, session, device), _origin(cut) | {"first": prune_settings.first(run)}
    opening.create(session.files, asked, cut.card, notes)
    journal.Journal(session.files.journal).write(
        "prune", **told, split=session.split.name, images=len(session.split), exits=rows
    )
    state = {**trainer.state_dict(), "data": origin.fingerprint(sets)}
    checkpoint.save(session.files.checkpoint, state)
    return session


def keep(session: Session) -> None:
    """Make the weights of a session that is not trained at all its run's network."""
    checkpoint.save_network(session.files.network, session.network.state_dict())
    session.finish()
    runs.mark_latest(session.files)


def prune(
    run: Run,
    *,
    ratio: float,
    epochs: int | None = None,
    name: str | None = None,
    root: Path = RUNS,
    **given: Any,  # Any: see `prepare`
) -> Run:
    """Prune a run, train what is left to the end and return the new run; see `prepare`."""
    session = prepare(run, ratio=ratio, epochs=epochs, name=name, root=root, given=given)
    if epochs == 0:
        keep(session)
    else:
        for _ in session.run():
            pass
    return session.files


def compared(run: Run) -> dict[str, Any]:  # Any: JSON values
    """Return what pruning a run's network has changed, from its journal.

    Keys: those of the journal's event `prune`; in `exits` per exit macs, parameters and accuracy,
    each also as `..._before`, and `accuracy_pruned` without training. `accuracy` is None where the
    run is not finished.

    Raises:
        ConfigError: the run's network was not pruned.
    """
    told = list(journal.read(run.journal, "prune"))
    if not told:
        raise ConfigError(
            f"pruning of run {run.name}", "its network was not pruned", "name another run"
        )
    table = told[-1]
    after = _accuracy(run, table)
    rows = [{**row, "accuracy": after.get(row["exit"])} for row in table["exits"]]
    return {**table, "exits": rows}


def _new(run: Run, name: str | None, root: Path) -> Run:
    if name is None:
        return runs.numbered(f"{run.name}-pruned", root)
    return runs.create(name, "", "", root)


def _told(run: Run, cut: Cut) -> str:
    share = cut.after.plain / cut.before.plain
    left = f"; {cut.choice.whole} of {cut.choice.sets} sets of channels that belong together stay "
    whole = f"{left}whole, as they are shuffled or mixed" if cut.choice.whole else ""
    return (
        f"pruned from run {run.name}: {cut.before.plain / 1e6:.1f} M multiply-adds of the plain "
        f"network become {cut.after.plain / 1e6:.1f} M ({share:.0%}){whole}"
    )


def _origin(cut: Cut) -> dict[str, Any]:  # Any: JSON values
    assert cut.card.pruned is not None
    return {
        "run": cut.card.pruned.run,
        "network": cut.card.pruned.network,
        "ratio": cut.card.pruned.ratio,
        "sets": cut.choice.sets,
        "sets_whole": cut.choice.whole,
        "channels_before": prune_cut.channels(cut.whole),
        "channels": prune_cut.channels(cut.network),
        "plain_macs_before": cut.before.plain,
        "plain_macs": cut.after.plain,
    }


def _rows(cut: Cut, session: Session, device: torch.device) -> list[dict[str, Any]]:
    """Return one row per exit: costs and accuracy before, and right after the cut."""
    exits, told = cut.card.exits, []
    for network in (cut.whole, cut.network):
        network.to(device).to(memory_format=torch.channels_last)
        images = session.split, cut.card.image, device
        told.append(evaluate.accuracy(network, *images, precision="float32"))
    columns = {
        "exit": exits,
        "macs_before": cut.before.leaving(exits),
        "macs": cut.after.leaving(exits),
        "parameters_before": cut.before.parameters(exits),
        "parameters": cut.after.parameters(exits),
        "accuracy_before": told[0],
        "accuracy_pruned": told[1],
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _accuracy(run: Run, table: Mapping[str, Any]) -> dict[int, float]:
    """Return the finished run's accuracy on the split by which its epochs were judged."""
    ends, epochs = list(journal.read(run.journal, "finish")), journal.epochs(run.journal)
    if not ends:
        return {}
    if not epochs:
        return {row["exit"]: row["accuracy_pruned"] for row in table["exits"]}
    if table["split"] == "tune":
        return {row["exit"]: row["top1"] for row in ends[-1]["exits"]}
    best = [row for row in epochs if row["selected"]][-1]
    return dict(zip(run.read_card().exits, best["accuracy"], strict=True))
