import json
from pathlib import Path
from typing import Any

import pytest

from exitkit.errors import ConfigError, DataError
from exitkit.report import results

MACHINE = {"cpu": "a processor", "cores": 2, "torch": "2.15.0"}


def line(seed: int, accuracy: float, policy: str = "recommended") -> dict[str, Any]:
    return {
        "benchmark": "line", "commit": "c" * 40, "seed": seed, "machine": MACHINE,
        "method": "mate", "arch": "mobilenetv2", "width": 0.5, "data": "digits",
        "policy": policy, "accuracy": accuracy, "exit2": 0.95, "exit4": 0.97, "mmacs": 20.0,
        "p50_ms": 2.0, "p95_ms": 4.0, "left2": 0.75, "left4": 0.25,
    }  # fmt: skip


def test_the_documents_are_what_the_tracked_rows_render_to() -> None:
    rows = results.read(results.ROOT / "results")
    assert (results.ROOT / "docs" / "results.md").read_text() == results.render(rows)
    page = (results.ROOT / "README.md").read_text()
    assert page == results.insert(page, results.readme(rows))


def test_seeds_are_joined_to_mean_and_deviation() -> None:
    rows = [line(0, 0.96), line(1, 0.98), line(0, 0.9, "threshold 1")]
    text = results.readme(rows)
    # The mean of 96 and 98 is 97, their sample deviation is the root of 2: 1.41.
    assert "97.00% ± 1.41%" in text
    assert "| threshold 1 | 90.00% |" in text
    assert "seeds 0, 1" in text
    assert "machine a processor, 2 cores, torch 2.15.0; commit `cccccccccc`" in text


def cifar(method: str, seed: int, **shares: float | None) -> dict[str, Any]:
    return {
        "benchmark": "cifar100", "method": method, "seed": seed, "commit": "c" * 40,
        "machine": MACHINE, "arch": "resnet18", "width": 0.25, "epochs": 12, "precision": "bf16",
        "data": "data images", "selected": 10 + seed, "images_per_s": 1000 + seed, **shares,
    }  # fmt: skip


def test_averages_show_their_spread_and_the_number_of_seeds() -> None:
    text = results.render(
        [
            cifar("deep", 0, exit1=0.3, exit4=0.5, ensemble=0.52),
            cifar("ce", 0, exit4=0.51, ensemble=None),
            cifar("deep", 1, exit1=0.4, exit4=0.5, ensemble=0.54),
        ]
    )
    # 30 and 40: mean 35, deviation 5 sqrt(2). A value that only some rows have is still averaged.
    assert (
        "| deep | 35.00% ± 7.07% |  |  | 50.00% ± 0.00% | 53.00% ± 1.41% | 2 | 10.5 ± 0.7 |" in text
    )
    assert "| ce |  |  |  | 51.00% |  | 1 | 10.0 | resnet18 |" in text


def test_every_benchmark_has_its_section_and_conditions() -> None:
    base = {"commit": "c" * 40, "seed": 0, "machine": MACHINE}
    text = results.render(
        [
            {"benchmark": "train_bf16", "arch": "resnet18", "not_measured": "no bf16", **base},
            {"benchmark": "unheard_of", "speed_ms": 3.5, "detail": [1, 2], **base},
        ]
    )
    assert "## bf16 against float32 in training" in text
    assert "Not measured: no bf16." in text
    assert "## unheard_of\n\n| speed ms |\n| ---: |\n| 3.5 |" in text
    assert text.count("Conditions: machine a processor") == 2


def test_without_rows_the_documents_say_so() -> None:
    assert results.EMPTY in results.render([])
    assert results.readme([]) == results.EMPTY


@pytest.mark.parametrize(
    ("text", "found"),
    [("{", "no JSON"), ('{"benchmark": "engine"}', "lacks commit, machine"), ("[]", "lacks")],
)
def test_a_row_that_is_none_is_named(tmp_path: Path, text: str, found: str) -> None:
    (tmp_path / "a.jsonl").write_text(f"{json.dumps(line(0, 0.9))}\n{text}\n")
    with pytest.raises(DataError, match=found) as caught:
        results.read(tmp_path)
    assert caught.value.asked == "a.jsonl, line 2"


def test_only_what_stands_between_the_marks_is_replaced() -> None:
    page = f"before\n{results.BEGIN}\nold\n{results.END}\nafter\n"
    assert results.insert(page, "new") == f"before\n{results.BEGIN}\nnew\n{results.END}\nafter\n"
    with pytest.raises(ConfigError, match="its marks are missing"):
        results.insert("no marks", "new")
