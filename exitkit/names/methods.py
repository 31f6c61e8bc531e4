"""The training objectives by name, without torch: title, source, options."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """One training objective as the user sees it.

    Attributes:
        title: one line.
        source: authors, year, paper.
        teaches: "all" exits or only the "deepest".
        heads: the kind of heads that its paper used; None where it says nothing of heads.
        options: keyword -> default, as in `byot(last=1.9)`.
    """

    title: str
    source: str
    teaches: str
    options: dict[str, float | int | str | bool]
    heads: str | None = None


METHODS: dict[str, Method] = {
    "ce": Method("labels only, deepest exit", "the control", "deepest", {}),
    "deep": Method("deep supervision: labels at every exit", "Lee et al. 2015", "all", {}),
    "ls": Method(
        "label smoothing",
        "Szegedy et al. 2016, as in the code of TF-KD",
        "deepest",
        {"smoothing": 0.1},
    ),
    "phuong": Method(
        "the deepest exit teaches the others, at a temperature that rises as it becomes sure",
        "Phuong & Lampert 2019",
        "all",
        {"alpha": 0.5, "temperature": 1.0, "growth": 1.05, "sure": 0.5, "scale": 0.0},
    ),
    "byot": Method(
        "the deepest exit teaches the others: logits and features",
        "Zhang et al. 2019, Be Your Own Teacher",
        "all",
        {"alpha": 0.1, "temperature": 3.0, "hint": 1e-6, "last": 0.9, "first": 1},
        heads="byot",
    ),
    "ecsd": Method(
        "the deepest exit teaches the others: logits, and features through trained adapters",
        "Zhang et al. 2022, Self-Distillation (TPAMI)",
        "all",
        {"alpha": 0.3, "temperature": 3.0, "feature": 0.03, "skip": "shallowest"},
        heads="ecsd",
    ),
    "eed": Method(
        "the mean of all exits teaches every exit: logits and features",
        "Lee & Lee 2021, EED, arXiv 2104.00299",
        "all",
        {
            "beta": 1.0,
            "anneal": 1.0,
            "temperature": 3.0,
            "distillation": 1.0,
            "feature": 0.1,
            "logits": "kl",
        },
        heads="eed",
    ),
    "beed": Method(
        "the mean of all exits, the deep ones first, teaches the shallow ones above all",
        "Lee & Lee 2022, BEED",
        "all",
        {
            "beta": 1.6,
            "anneal": 1.15,
            "temperature": 3.0,
            "distillation": 1.0,
            "feature": 0.1,
        },
        heads="bottle",
    ),
    "pskd": Method(
        "labels softened by the previous epoch's predictions",
        "Kim et al. 2021, PS-KD",
        "deepest",
        {"alpha": 0.8},
    ),
    "dmfl": Method(
        "deepest and every other exit learn each other's pooled features",
        "Progressive Self-Knowledge Distillation with Mutual Learning",
        "all",
        {"weight": 1.0, "live": False},
        heads="byot",
    ),
    "mate": Method(
        "attention-weighted ensembles of the exits teach every exit, and learn from them",
        "MATE, FITEE 25(4) 2024 (our reading)",
        "all",
        {
            "temperature": 3.0,
            "teacher_temperature": 3.0,
            "primary": 1.0,
            "others": 0.1,
            "teachers": 1.0,
            "diversity": 0.1,
            "reverse": False,
            "teacher_reverse": False,
            "scaled": False,
        },
        heads="bottle",
    ),
    "loth": Method(
        "all exits' features fuse into a virtual teacher; it and the exits teach each other",
        "LOTH, Live on the Hump, ACM MM 2024",
        "all",
        {
            "base": 1.15,
            "temperature": 3.0,
            "teacher": 1.0,
            "distillation": 1.0,
            "fusion": "adaptive",
        },
        heads="bottle",
    ),
    "drg": Method(
        "a classifier in the middle teaches the deepest exit",
        "LightSKD, arXiv 2305.09183",
        "deepest",
        {"alpha": 0.2, "temperature": 1.0, "labels": 1.0, "stage": 2},
    ),
    "dsr": Method(
        "sorted logits of the previous batch",
        "LightSKD, arXiv 2305.09183",
        "deepest",
        {"beta": 1.0, "temperature": 4.0},
    ),
    "ffsd": Method(
        "students, their fusion and a leader that learns from it; the leader is deployed",
        "FFSD, arXiv 2103.14473",
        "deepest",
        {
            "students": 2,
            "temperature": 2.0,
            "diversity": 1e-5,
            "fusion": 10.0,
            "self_distillation": 1e3,
            "distillation": 1.0,
            "balance": 1.0,
            "leader_depth": 1.0,
            "ramp": 5 / 300,
            "unit": False,
        },
    ),
    "dtskd": Method(
        "top-down branches and the network learn from their past, branches from the network",
        "Li et al. 2024, DTSKD",
        "deepest",
        {
            "main": 0.6,
            "branches": 0.2,
            "distillation": 0.8,
            "temperature": 4.0,
            "hard": 0.9,
            "memory": 1.0,
            "width": 512,
            "live": False,
        },
    ),
    "cskd": Method(
        "another image of the same class is the teacher",
        "Yun et al. 2020, CS-KD",
        "deepest",
        {"distillation": 1.0, "temperature": 4.0},
    ),
    "dlb": Method(
        "the last mini-batch teaches a second view of itself",
        "Shen et al. 2022, DLB",
        "deepest",
        {"alpha": 0.5, "temperature": 3.0, "labels": 1.0},
    ),
    "tfkd": Method(
        "a teacher that is written down: nearly all for the label, a little for the rest",
        "Yuan et al. 2020, TF-KD_reg",
        "deepest",
        {"alpha": 0.1, "distillation": 0.1, "temperature": 20.0, "sure": 0.99},
    ),
    "zfls": Method(
        "the wrong classes follow Zipf's law of their own ranks",
        "Liang et al. 2022, ZF-LS (variant lb)",
        "deepest",
        {"weight": 0.1},
    ),
    "dml": Method(
        "networks that start apart learn from labels and from each other",
        "Zhang et al. 2018, DML",
        "deepest",
        {"students": 2, "temperature": 1.0, "distillation": 1.0},
    ),
    "kdcl": Method(
        "networks see different views, and learn from what they say together",
        "Guo et al. 2020, KDCL",
        "deepest",
        {"students": 2, "alpha": 0.5, "temperature": 4.0, "target": "mean"},
    ),
    "one": Method(
        "branches from a stage, a gated ensemble teaches each",
        "Lan et al. 2018, ONE",
        "deepest",
        {
            "branches": 3,
            "stage": 2,
            "temperature": 3.0,
            "ramp": 80 / 300,
            "peers": 1.0,
            "ensemble": 1.0,
            "distillation": 1.0,
        },
    ),
    "okddip": Method(
        "peers on a shared trunk teach each other by attention, and all of them a leader",
        "Chen et al. 2020, OKDDip",
        "deepest",
        {
            "branches": 3,
            "stage": 2,
            "temperature": 3.0,
            "ramp": 80 / 300,
            "peers": 1.0,
            "distillation": 1.0,
        },
    ),
}
