"""How the tracked rows of benchmarks/serve.py are shown; see `exitkit.report.benchmarks`."""

from exitkit.report.tables import Column, Table

_ON = (
    Column("network", "network"),
    Column("point", "operating point"),
)
_CHECKED = (
    Column("answered", "answers", ","),
    Column("wrong", "wrong"),
    Column("failed", "failed"),
    Column("load_average", "load average", ".1f"),
    Column("others", "other work, cores", ".2f"),
)
_HOW = (
    "A load generator in a process of its own sends real test images as binary tensors over kept "
    "connections; server and load have one core each, the engine one thread. Every answer is held "
    "against the offline engine's. Measured; servers take turns within rounds, ratios are medians "
    "of the rounds' ratios, percentiles are of all rounds' samples, which are in the rows. "
    "ResNet-18: cifar-full and digits-full at full width, cifar and digits at a quarter; CIFAR-100 "
    "for 4 epochs at full width and 12 at a quarter, MATE throughout."
)

SERVING = {
    "serve": Table(
        "Exits behind HTTP: throughput",
        f"{_HOW} The whole network is the same server with a bundle of the deepest exit alone. "
        "Thresholds are chosen on the tune split, accuracy is on the whole test split. Saturation "
        "is a closed loop of 128 images on their way, gain its ratio to the whole network's, and "
        "gain x MACs is how much of the gain that the saved multiply-adds allow was reached. The "
        "bare engine answers the same images in batches of 32.",
        (
            *_ON,
            Column("images", "images a request"),
            Column("accuracy", "accuracy", ".2%"),
            Column("over_whole", "over the whole", "+.2%"),
            Column("leaving", "% that leave at each exit"),
            Column("macs_share", "MACs", ".3f"),
            Column("static_per_s", "whole, images/s", ",.0f"),
            Column("exits_per_s", "exits, images/s", ",.0f"),
            Column("gain", "gain", ".2f"),
            Column("gain_over_saved", "gain x MACs", ".2f"),
            Column("engine_gain", "engine's own gain", ".2f"),
            Column("of_engine", "of the bare engine", ".2f"),
            Column("static_of_engine", "whole, of the bare engine", ".2f"),
            *_CHECKED,
            Column("rounds", "rounds"),
        ),
    ),
    "serve_latency": Table(
        "Exits behind HTTP: latency",
        "As above, under Poisson load at 70 % of what the whole network can serve; latency counts "
        "from when a request was due.",
        (
            *_ON,
            Column("images", "images a request"),
            Column("rate", "images/s", ",.0f"),
            Column("static_p50_ms", "whole p50 ms", ".2f"),
            Column("exits_p50_ms", "exits p50 ms", ".2f"),
            Column("p50_ratio", "p50 ratio", ".2f"),
            Column("static_p99_ms", "whole p99 ms", ".2f"),
            Column("exits_p99_ms", "exits p99 ms", ".2f"),
            Column("p99_ratio", "p99 ratio", ".2f"),
            *_CHECKED,
            Column("late_p99_ms", "load's own delay, p99 ms", ".2f"),
            Column("generator_cpu", "load's share of its core", ".0%"),
        ),
    ),
    "serve_rebatching": Table(
        "Re-batching on and off",
        "As above, at the same operating point; off, a batch goes through all stages alone. "
        "Latency is under Poisson load at 70 % of what the server without re-batching can serve.",
        (
            *_ON,
            Column("rebatching", "re-batching"),
            Column("per_s", "images/s", ",.0f"),
            Column("over_off", "over off", ".2f"),
            Column("p50_ms", "p50 ms", ".2f"),
            Column("p99_ms", "p99 ms", ".2f"),
            *_CHECKED,
            Column("rounds", "rounds"),
        ),
    ),
    "serve_http": Table(
        "What HTTP costs",
        "One client, one request of one image on its way, over the engine's own call for one "
        "image at the same operating point.",
        (
            *_ON,
            Column("kind", "sent as"),
            Column("engine_ms", "engine p50 ms", ".3f"),
            Column("p50_ms", "p50 ms", ".3f"),
            Column("over_engine_ms", "over the engine, ms", ".3f"),
            Column("p99_ms", "p99 ms", ".3f"),
            *_CHECKED,
            Column("rounds", "rounds"),
        ),
    ),
    "serve_rivals": Table(
        "Beside other servers",
        "Image files, one a request, under Poisson load; LitServe gets them as base64 in JSON, the "
        "others as the body. Each server has one core, and is stopped while another is asked. "
        "Rivals run the whole network in ONNX Runtime (`benchmarks/rivals/`); load is over what "
        "the better of them answers in a closed loop. Above that, latency grows for as long as "
        "the load lasts.",
        (
            *_ON,
            Column("server", "server"),
            Column("saturation", "closed loop, images/s", ",.0f"),
            Column("load", "load", ".0%"),
            Column("per_s", "answered, images/s", ",.0f"),
            Column("p50_ms", "p50 ms", ".2f"),
            Column("p99_ms", "p99 ms", ".2f"),
            *_CHECKED,
        ),
    ),
    "serve_simulated": Table(
        "The simulator's predictions",
        "Poisson load of single images; the simulator knows the stages' measured times, the exits "
        "that the images take, and what a request costs beside the engine, measured at saturation. "
        "Load is over what this server answers in a closed loop.",
        (
            *_ON,
            Column("load", "load", ".0%"),
            Column("beside_ms", "beside the engine, ms", ".3f"),
            Column("live_per_s", "images/s", ",.0f"),
            Column("simulated_per_s", "simulated", ",.0f"),
            Column("live_p50_ms", "p50 ms", ".2f"),
            Column("simulated_p50_ms", "simulated", ".2f"),
            Column("live_p99_ms", "p99 ms", ".2f"),
            Column("simulated_p99_ms", "simulated", ".2f"),
            *_CHECKED,
        ),
    ),
}
