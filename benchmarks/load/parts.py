"""The questions of benchmarks/serve.py, each asked of one lab in rounds that take turns."""

import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from exitkit.serve.scheduling import rules
from exitkit.serve.scheduling.scheduler import PASSES
from exitkit.serve.scheduling.simulate import Load, poisson, simulate
from exitkit.serve.scheduling.stages import BESIDES_MS, Stages
from load import pictures, samples
from load.lab import APART, BATCH, EXITKIT, SEED, Lab, Target
from load.place import Server
from load.rows import Found, checks, dearer, gains, latency, pool, rates, ratio, ratios

# Images on their way in a closed loop: several of the largest batches.
OUTSTANDING = 128
LOAD = 0.7
QUEUE = 1024


def saturate(
    lab: Lab, server: Server, target: Target, seconds: float, images: int = 1, **more: Any
) -> Found:
    """Ask as fast as answers come."""
    clients = OUTSTANDING // images
    return lab.load(
        server, target, loop="closed", clients=clients, seconds=seconds, images=images, **more
    )


def exits(
    lab: Lab, targets: Sequence[Target], rounds: int, seconds: float, images: int
) -> list[Found]:
    """Ask for saturation, and for latency at 70 % of what the whole network can serve."""
    plain = lab.whole
    with ExitStack() as stack:
        up = {t: stack.enter_context(lab.serve(t)) for t in (plain, *targets)}
        full: dict[Target, list[Found]] = {t: [] for t in up}
        paced: dict[Target, list[Found]] = {t: [] for t in up}
        bare: dict[Target, list[float]] = {t: [] for t in up}
        for _ in range(rounds):
            for target, server in up.items():
                bare[target].append(lab.speed(target, seconds / 2)["per_s"])
                full[target].append(saturate(lab, server, target, seconds, images))
            rate = LOAD * full[plain][0]["per_s"]  # of all rounds, so that they are one load
            for target, server in up.items():
                paced[target].append(
                    lab.load(
                        server, target, loop="poisson", rate=rate, seconds=seconds, images=images
                    )
                )
    rows: list[Found] = []
    for target in targets:
        about = {**point(lab, target), "images": images, "rounds": rounds, "seconds": seconds}
        macs_share = about["macs_share"]
        throughput = {
            **gains(full[plain], full[target], macs_share),
            "engine_per_s": statistics.median(bare[target]),
            "engine_gain": ratio(bare[target], bare[plain]),
            "of_engine": ratio(rates(full[target]), bare[target]),
            "static_of_engine": ratio(rates(full[plain]), bare[plain]),
            "static_cpu_ms": statistics.median(one["cpu_ms"] for one in full[plain]),
            "exits_cpu_ms": statistics.median(one["cpu_ms"] for one in full[target]),
        }
        both = latency("static", paced[plain]) | latency("exits", paced[target])
        kept = {"static": pool(paced[plain]), "exits": pool(paced[target])}
        delay = {"rate": rate, **both, **ratios(both), "samples": kept}
        seen = checks(full[plain] + full[target])
        rows.append({"benchmark": "serve", **about, **throughput, **seen})
        seen = checks(paced[plain] + paced[target])
        rows.append({"benchmark": "serve_latency", **about, **delay, **seen})
    return rows


def rebatching(lab: Lab, target: Target, rounds: int, seconds: float) -> list[Found]:
    """Ask the same of a scheduler that keeps batches apart, also at 70 % of what that can serve."""
    ways = {"on": EXITKIT, "off": APART}
    with ExitStack() as stack:
        up = {name: stack.enter_context(lab.serve(target, how)) for name, how in ways.items()}
        full: dict[str, list[Found]] = {name: [] for name in up}
        paced: dict[str, list[Found]] = {name: [] for name in up}
        for _ in range(rounds):
            for name, server in up.items():
                full[name].append(saturate(lab, server, target, seconds))
            rate = LOAD * full["off"][0]["per_s"]
            for name, server in up.items():
                paced[name].append(
                    lab.load(server, target, loop="poisson", rate=rate, seconds=seconds)
                )
    return [
        {
            **point(lab, target),
            "rebatching": name,
            "per_s": statistics.median(rates(full[name])),
            "over_off": ratio(rates(full[name]), rates(full["off"])),
            "rate": rate,
            **latency("", paced[name]),
            **checks(full[name] + paced[name]),
            "rounds": rounds, "seconds": seconds, "samples": {"paced": pool(paced[name])},
        }
        for name in ways
    ]  # fmt: skip


def http(lab: Lab, target: Target, rounds: int, seconds: float) -> list[Found]:
    """Ask with one client that has one request of one image on its way."""
    kinds = ("tensor", "json", "file")
    alone: dict[str, list[Found]] = {kind: [] for kind in kinds}
    engine: list[float] = []
    with lab.serve(target) as server:
        for _ in range(rounds):
            engine.append(lab.speed(target, seconds / 2, batch=1)["p50_ms"])
            for kind in kinds:
                alone[kind].append(
                    lab.load(server, target, loop="closed", clients=1, seconds=seconds, kind=kind)
                )
    return [
        {
            **point(lab, target),
            "kind": kind,
            "engine_ms": statistics.median(engine),
            **latency("", alone[kind]),
            "over_engine_ms": statistics.median(
                one["p50_ms"] - ms for one, ms in zip(alone[kind], engine, strict=True)
            ),
            **checks(alone[kind]),
            "rounds": rounds, "seconds": seconds, "samples": {"alone": pool(alone[kind])},
        }
        for kind in kinds
    ]  # fmt: skip


def rivals(
    lab: Lab, target: Target, rounds: int, seconds: float, loads: Sequence[float]
) -> list[Found]:
    """Ask rivals with the whole network, and ours, for image files at several loads.

    Loads are shares of what the better rival answers in a closed loop.
    """
    with ExitStack() as stack:
        enter = stack.enter_context
        up = {
            "exitkit, exits": (enter(lab.serve(target)), target, "file"),
            "exitkit, whole network": (enter(lab.serve(lab.whole)), lab.whole, "file"),
            "FastAPI + ONNX Runtime": (enter(lab.rival("fastapi_server")), lab.whole, "file"),
            "LitServe": (enter(lab.rival("litserve_server")), lab.whole, "base64"),
        }  # fmt: skip
        full: dict[str, list[Found]] = {name: [] for name in up}
        paced: dict[tuple[str, float], list[Found]] = {}
        for _ in range(rounds):
            for name, (server, what, kind) in up.items():
                full[name].append(saturate(lab, server, what, seconds, kind=kind))
            best = max(full[name][0]["per_s"] for name in list(up)[2:])
            for share in loads:
                for name, (server, what, kind) in up.items():
                    found = lab.load(
                        server, what, loop="poisson", rate=share * best, seconds=seconds, kind=kind
                    )
                    paced.setdefault((name, share), []).append(found)
    return [
        {
            **point(lab, up[name][1]),
            "server": name,
            "saturation": statistics.median(rates(full[name])),
            "load": share,
            "rate": share * best,
            "per_s": statistics.median(rates(found)),
            **latency("", found),
            **checks(full[name] + found),
            "rounds": rounds, "seconds": seconds, "samples": {"paced": pool(found)},
        }
        for (name, share), found in paced.items()
    ]  # fmt: skip


def simulated(lab: Lab, target: Target, seconds: float, loads: Sequence[float]) -> list[Found]:
    """Hold the simulator against the server at several loads.

    The simulator knows the stages' times, which exits the images take, and one number for all
    that a request costs besides: what the server spends an image at saturation over the engine.
    """
    table = lab.bare("stages", {"bundle": str(lab.bundles / target.name), "batch": BATCH})
    engine_ms = 1e3 / lab.speed(target, seconds)["per_s"]
    rows = []
    with lab.serve(target) as server:
        full = saturate(lab, server, target, seconds)
        beside = max(0.0, full["cpu_ms"] - engine_ms - BESIDES_MS / BATCH)
        stages = dearer(table["seconds"], beside)
        for share in loads:
            rate = share * full["per_s"]
            live = lab.load(server, target, loop="poisson", rate=rate, seconds=seconds)
            rows.append((share, rate, live, predict(lab, target, stages, rate, seconds)))
    return [
        {
            **point(lab, target),
            "load": share, "rate": rate, "beside_ms": beside,
            **{f"live_{key}": live[key] for key in ("per_s", "p50_ms", "p99_ms")},
            **told,
            **checks([live]), "seconds": seconds, "samples": {"live": live["samples"]},
        }
        for share, rate, live, told in rows
    ]  # fmt: skip


def predict(lab: Lab, target: Target, stages: Stages, rate: float, seconds: float) -> Found:
    """Simulate a Poisson load of single images, with the exits that they take."""
    numbers = lab.manifest.exits
    taken = np.array([numbers.index(k) for k in lab.exits_taken(target)])
    due = poisson(rate, int(rate * seconds), SEED)
    exits = np.resize(taken[pictures.drawn(len(taken), SEED)], len(due))
    out = simulate(
        stages, rules.full_first, Load(exits[:, None], due), QUEUE,
        PASSES * stages.whole(stages.batch),
    )  # fmt: skip
    late = np.where(np.isnan(out.latency_s), np.inf, out.latency_s) * 1e3
    return {
        "simulated_per_s": (len(due) - out.refused) / max(out.end_s, seconds),
        "simulated_p50_ms": samples.percentile(late, 0.5),
        "simulated_p99_ms": samples.percentile(late, 0.99),
    }


def point(lab: Lab, target: Target) -> Found:
    """Say what served: network, threshold, accuracy and where images leave."""
    answer, whole = lab.answers[target.point], lab.answers[lab.whole.point]
    return {
        "network": lab.name, "arch": lab.manifest.arch, "method": lab.manifest.method,
        "classes": len(lab.manifest.classes), "plain_mmacs": plain_macs(lab) / 1e6,
        "point": target.point, "threshold": target.threshold, "accuracy": answer["accuracy"],
        "over_whole": answer["accuracy"] - whole["accuracy"],
        "leaving": " / ".join(f"{100 * share:.0f}" for share in answer["shares"]),
        "macs_share": answer["macs"] / plain_macs(lab),
    }  # fmt: skip


def plain_macs(lab: Lab) -> float:
    """Return multiply-adds of the network without exits."""
    return float(lab.manifest.plain_macs)
