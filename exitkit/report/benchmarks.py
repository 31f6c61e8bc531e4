"""How the tracked rows of each benchmark are shown: headings, words and columns."""

from exitkit.report.serving import SERVING
from exitkit.report.tables import SEEDS, Column, Table

_EXITS = tuple(Column(f"exit{number}", f"exit {number}", ".2%") for number in range(1, 5))
_RECIPE = (
    Column("arch", "network"),
    Column("width", "width", "g"),
    Column("epochs", "epochs"),
    Column("precision", "precision"),
)

TABLES = {
    "line": Table(
        "The whole line",
        "`exitkit demo`: trained, exported, served on loopback; every test image sent over HTTP, "
        "one at a time. Accuracy and milliseconds are measured at the client, multiply-adds are "
        "computed, heads on the way counted.",
        (
            Column("method", "method"),
            Column("arch", "network"),
            Column("width", "width", "g"),
            Column("data", "data"),
            Column("policy", "policy"),
            Column("accuracy", "accuracy", ".2%"),
            Column("exit2", "exit 2 alone", ".2%"),
            Column("exit4", "exit 4 alone", ".2%"),
            Column("mmacs", "mean MACs, M", ",.2f"),
            Column("p50_ms", "p50 ms", ".2f"),
            Column("p95_ms", "p95 ms", ".2f"),
            Column("left2", "left at exit 2", ".1%"),
            Column("left4", "left at exit 4", ".1%"),
        ),
        ("accuracy", "exit2", "exit4", "mmacs", "p50_ms", "p95_ms", "left2", "left4"),
    ),
    "engine": Table(
        "The engine and its limit",
        "Early exiting with resnet18 and four exits; the limit is every segment at just the "
        "images that reach it. Measured: medians of interleaved rounds, ratios within rounds.",
        (
            Column("pool", "thread pool"),
            Column("batch", "batch"),
            Column("engine_ms", "engine, ms", ".2f"),
            Column("limit_ms", "limit, ms", ".2f"),
            Column("engine_over_limit", "engine / limit", ".3f"),
            Column("all_segments_ms", "no exit, ms", ".2f"),
            Column("plain_ms", "plain network, ms", ".2f"),
            Column("engine_over_plain", "engine / plain", ".3f"),
            Column("rounds", "rounds"),
        ),
    ),
    "cascade": Table(
        "One graph that exits by itself",
        "The cascade of resnet18 with four exits against the engine on the same segments, images "
        "and exits, with the same threads, which do not spin in a private pool. Measured: medians "
        "of interleaved rounds, ratios within rounds.",
        (
            Column("pool", "thread pool"),
            Column("threads", "threads"),
            Column("batch", "batch"),
            Column("engine_ms", "engine, ms", ".2f"),
            Column("cascade_ms", "cascade, ms", ".2f"),
            Column("cascade_over_engine", "cascade / engine", ".3f"),
            Column("cpu_over_engine", "processor time, cascade / engine", ".3f"),
            Column("rounds", "rounds"),
        ),
    ),
    "forms": Table(
        "Forms and precisions",
        "Each bundle at its own policy's thresholds, on encoded test images. Staged is the engine "
        "on the segments; the others run in plain ONNX Runtime. The same decision is the same exit "
        "and the same label. Size and milliseconds of a batch: medians of interleaved rounds.",
        (
            Column("arch", "network"),
            Column("method", "method"),
            Column("mmacs", "plain MACs, M", ".1f"),
            Column("exits", "exits"),
            Column("precision", "precision"),
            Column("form", "form"),
            Column("mb", "MB", ".2f"),
            Column("ms1", "batch 1, ms", ".3f"),
            Column("ms32", "batch 32, ms", ".2f"),
            Column("accuracy", "accuracy", ".2%"),
            Column("as_staged", "decides as its staged form", ".2%"),
            Column("as_float32", "decides as staged float32", ".2%"),
            Column("images", "images"),
            Column("threads", "threads"),
        ),
    ),
    "train_step": Table(
        "What exits cost in training",
        "One training step of the network with exits over one of the plain network, against the "
        "ratio of their multiply-adds. Measured: medians of interleaved rounds.",
        (
            Column("arch", "network"),
            Column("exits_ms", "with exits, ms", ".1f"),
            Column("plain_ms", "plain, ms", ".1f"),
            Column("time_ratio", "time ratio", ".3f"),
            Column("mac_ratio", "MAC ratio", ".3f"),
            Column("over_macs", "time / MACs", ".3f"),
            Column("images_per_s", "images/s", ",.0f"),
        ),
    ),
    "methods": Table(
        "Every method learns",
        "Each method on digits with the data set's own recipe, in fewer epochs, judged on the test "
        "split at every exit that it teaches. Measured once; no comparison of methods.",
        (
            Column("method", "method"),
            Column("arch", "network"),
            Column("width", "width", "g"),
            Column("epochs", "epochs"),
            *_EXITS,
            Column("seconds", "seconds to train", ".0f"),
        ),
    ),
    "cifar100": Table(
        "Objectives on CIFAR-100",
        "One short recipe for every method (`benchmarks/cifar100.py`), so no comparison with "
        "published numbers. The best epoch is picked on the tune split; the test split is opened "
        "once, at the end. The ensemble is the mean of all exits' logits. Mean ± standard "
        "deviation over the seeds. Speeds are left out: other work ran beside the trainings.",
        (
            Column("method", "method"),
            *_EXITS,
            Column("ensemble", "ensemble", ".2%"),
            Column(SEEDS, "seeds"),
            Column("selected", "best epoch", ".1f"),
            *_RECIPE,
            Column("data", "data"),
        ),
        ("exit1", "exit2", "exit3", "exit4", "ensemble", "selected"),
    ),
    "mate": Table(
        "MATE against others, tuned alike",
        "The best of the same number of trials for each method (`benchmarks/tune_mate.py --final`; "
        "the trials stand below), trained again with other seeds; the test split is opened once, "
        "at the end. MATE is our reading. Mean ± standard deviation over the seeds.",
        (
            Column("method", "method"),
            Column("lr", "lr", "g"),
            Column("weight_decay", "weight decay", "g"),
            Column("trials", "trials"),
            *_EXITS,
            Column("mean", "mean of exits", ".2%"),
            Column("ensemble", "ensemble", ".2%"),
            Column(SEEDS, "seeds"),
            *_RECIPE,
            Column("data", "data"),
        ),
        ("exit1", "exit2", "exit3", "exit4", "mean", "ensemble"),
    ),
    "mate_tuning": Table(
        "Trials on the tune split",
        "Drawn by `benchmarks/tune_mate.py`, the first of each method with its defaults, its last "
        "two with its best options and the learning rate and weight decay of the other methods' "
        "best draws; accuracy on the tune split, at the best epoch. One seed.",
        (
            Column("method", "method"),
            Column("lr", "lr", "g"),
            Column("weight_decay", "weight decay", "g"),
            *(Column(f"tune{number}", f"exit {number}", ".2%") for number in range(1, 5)),
            Column("tune", "mean of exits", ".2%"),
            *_RECIPE,
        ),
    ),
    **SERVING,
    "train_bf16": Table(
        "bf16 against float32 in training",
        "Steps of full-width resnet18. Measured: medians of interleaved rounds.",
        (
            Column("arch", "network"),
            Column("float32_ms", "float32, ms", ".1f"),
            Column("bf16_ms", "bf16, ms", ".1f"),
            Column("gain", "gain", ".2f"),
        ),
    ),
}
