"""The commands on what one small `exitkit demo` has left."""

import csv
import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from exitkit import bundle, journal, runs, scores
from exitkit.cli.loopback import Load

from .conftest import Exitkit

NAME = "mate-mobilenetv2-1"


@pytest.fixture
def inside(demo: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The demo's folder, entered; nobody changes what is there."""
    monkeypatch.chdir(demo)
    return demo


@pytest.fixture
def answer(demo: Path) -> dict[str, Any]:
    table: dict[str, Any] = json.loads((demo / "demo.json").read_text())
    return table


def test_the_table_compares_policies_on_the_same_images(answer: dict[str, Any]) -> None:
    rows = {row["policy"]: row for row in answer["rows"]}
    assert list(rows) == ["recommended", "threshold 1", "plain network"]
    images = {row["images at exit 2"] + row["images at exit 4"] for row in rows.values()}
    assert images == {row["images"] for row in rows.values()} == {359}
    assert rows["plain network"]["images at exit 2"] == 0
    # Exit 4 answers the same with and without exit 2 on the way; only the cost differs.
    assert rows["threshold 1"]["accuracy"] == rows["plain network"]["accuracy"]
    assert rows["threshold 1"]["mean_macs"] > rows["plain network"]["mean_macs"]
    assert all(0 < row["p50_ms"] <= row["p95_ms"] for row in rows.values())


def test_the_server_answers_as_the_scores_say(demo: Path, answer: dict[str, Any]) -> None:
    table = scores.load(demo / "runs" / NAME / "scores-test.npz", "test")
    (deepest,) = [row for row in answer["rows"] if row["policy"] == "plain network"]
    right = (table.logits[-1].argmax(axis=1) == table.labels).mean()
    assert deepest["accuracy"] == pytest.approx(float(right), abs=0.003)
    assert answer["report"]["accuracy"] == pytest.approx(answer["rows"][0]["accuracy"], abs=0.003)


def test_the_report_lies_where_the_demo_says(answer: dict[str, Any]) -> None:
    page = Path(answer["report"]["html"])
    assert "Early exit" in page.read_text()
    assert Path(answer["report"]["png"]).read_bytes()[:4] == b"\x89PNG"
    assert page.parent.name == NAME


def test_the_bundle_with_two_exits_is_the_latest(inside: Path) -> None:
    assert runs.find_bundle(None).name == NAME
    assert bundle.read_manifest(runs.find_bundle(None)).exits == (2, 4)
    assert bundle.read_manifest(runs.find_bundle(f"{NAME}-plain")).exits == (4,)


def test_runs_lists_the_run(exitkit: Exitkit, inside: Path) -> None:
    (run,) = exitkit("runs", "--json").table["runs"]
    assert (run["name"], run["method"], run["arch"]) == (NAME, "mate", "mobilenetv2")
    assert (run["epochs_done"], run["finished"], run["latest"]) == (1, True, True)
    (epoch,) = journal.read(inside / "runs" / NAME / "journal.jsonl", "epoch")
    assert run["accuracy"] == epoch["accuracy"]
    assert f"{epoch['accuracy'][0]:.1%}" in exitkit("runs").out


def test_evaluate_prints_every_exit(exitkit: Exitkit, inside: Path) -> None:
    said = exitkit("evaluate", "--split", "tune", "--json")
    assert said.code == 0
    assert NAME in said.err
    assert [row["exit"] for row in said.table["exits"]] == [1, 2, 3, 4]
    assert said.table["images"] == 216
    answers = [row["answer"] for row in said.table["published"]]
    assert answers == ["exit 1", "exit 2", "exit 3", "exit 4", "ensemble", "oracle union"]
    errors = {row["answer"]: row["top1_error"] for row in said.table["published"]}
    assert errors["oracle union"] <= min(errors.values())
    assert errors["exit 4"] == pytest.approx(1 - said.table["exits"][3]["top1"])


def test_bench_writes_the_costs_beside_the_bundle(exitkit: Exitkit, here: Path, demo: Path) -> None:
    shutil.copytree(demo / "bundles" / NAME, here / "bundles" / "copy")
    said = exitkit("bench", "copy", "--batch-sizes", "1,2", "--rounds", "1", "--json")
    assert said.code == 0
    assert Path(said.table["costs"]) == (here / "bundles" / "copy.costs.json").resolve()
    rows = said.table["engine"]
    assert [row["batch"] for row in rows] == [1, 2]
    for row in rows:
        assert row["over_limit"] == pytest.approx(row["ms"] / row["limit_ms"])
        assert row["faster"] == pytest.approx(row["all_segments_ms"] / row["ms"])
    words = exitkit("bench", "copy", "--batch-sizes", "1", "--rounds", "1").out
    assert "limit" in words
    assert exitkit("bench", "copy", "--batch-sizes", "0").code == 2


def test_predict_answers_every_image_of_a_folder(
    exitkit: Exitkit, here: Path, demo: Path, digit_folder: Path
) -> None:
    where = str(demo / "bundles" / NAME)
    folder = digit_folder / "test" / "0"
    said = exitkit("predict", str(folder), "--bundle", where, "--csv", "a.csv", "--json")
    assert said.code == 0
    with open("a.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "label", "probability", "exit", "ms"]
    assert [row["file"] for row in rows] == sorted(map(str, folder.iterdir()))
    assert [row["label"] for row in rows] == [one["label"] for one in said.table["answers"]]
    assert {row["exit"] for row in rows} <= {"2", "4"}
    deep = exitkit("predict", str(folder), "--bundle", where, "--threshold", "1", "--json")
    assert {one["exit"] for one in deep.table["answers"]} == {4}


def test_predict_names_what_is_no_image_and_writes_nothing(
    exitkit: Exitkit, here: Path, demo: Path
) -> None:
    where = str(demo / "bundles" / NAME)
    photos = here / "photos"
    photos.mkdir()
    said = exitkit("predict", "photos", "--bundle", where)
    assert (said.code, "it holds no .png" in said.err) == (2, True)
    Image.new("RGB", (40, 30)).save(photos / "a.png")
    (photos / "b.png").write_bytes(b"no image")
    said = exitkit("predict", "photos", "--bundle", where, "--csv", "a.csv")
    assert said.code == 2
    assert "photos/b.png" in said.err
    assert not Path("a.csv").exists()
    assert exitkit("predict", "nowhere", "--bundle", where).code == 2


def test_export_refuses_exits_that_are_none(exitkit: Exitkit, inside: Path) -> None:
    said = exitkit("export", "--exits", "2,9")
    assert said.code == 2
    assert said.err.splitlines()[-1].startswith("error: exit 9: ")
    assert exitkit("export", "--exits", "two").code == 2


def test_a_port_in_use_is_said_before_anything_is_loaded(exitkit: Exitkit, inside: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = exitkit("serve", "--port", str(port))
    assert said.code == 2
    assert f"port {port} is in use" in said.err


def test_a_report_on_another_run_s_bundle_is_refused(
    exitkit: Exitkit, here: Path, demo: Path
) -> None:
    shutil.copytree(demo / "bundles" / NAME, here / "bundles" / "other")
    manifest = here / "bundles" / "other" / bundle.MANIFEST
    policy = here / "bundles" / "other" / bundle.POLICY
    digest = bundle.read_manifest(manifest.parent).network
    for file in (manifest, policy):
        file.write_text(file.read_text().replace(digest, "f" * len(digest)))
    said = exitkit("report", str(demo / "runs" / NAME), "--bundle", "other")
    assert said.code == 2
    assert "the bundle was exported from other weights" in said.err


def test_percentiles_are_answers_that_were_given() -> None:
    load = Load(ms=[4.0, 1.0, 3.0, 2.0])
    assert [load.percentile(p) for p in (25, 50, 75, 95, 100)] == [1.0, 2.0, 3.0, 4.0, 4.0]
