"""A bundle proves itself again on any machine: in a process that has no torch."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from exitkit import bundle
from exitkit.errors import BundleError, ParityError
from exitkit.export import package, reference, triton, verify
from exitkit.policy.policy import Policy
from exitkit.runs import Run

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = sys.modules["torchvision"] = sys.modules["onnx"] = None
from exitkit.cli.main import run
sys.exit(run(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def exported(trained_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bundles")
    return package.export(trained_run, exits=(2, 4), forms=("cascade",), root=root).folder


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def sign(folder: Path) -> None:
    """Write the digests anew, as somebody who edits a bundle on purpose would."""
    bundle.write_manifest(folder, bundle.read_manifest(folder, verify=False))


def typed(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_TORCH, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_images_that_may_not_leave_stay_behind(trained_run: Run, tmp_path: Path) -> None:
    made = package.export(
        trained_run, exits=(1,), images=False, triton=tmp_path / "models", root=tmp_path
    )
    assert not (made.folder / bundle.REFERENCE).exists()
    assert bundle.REFERENCE not in made.manifest.files
    assert made.notes[0].startswith("no images travel with the bundle")
    said = typed("export", "--verify", str(made.folder))
    assert said.returncode == 2
    assert "it was exported without them (--no-images); export it again with them" in said.stderr
    # Triton's cascade was proven with them all the same; afterwards it cannot be.
    assert made.repository == tmp_path / "models"
    with pytest.raises(BundleError, match=r"without them \(--no-images\)"):
        triton.of_bundle(made.folder, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_the_command_repeats_the_gate_without_torch(exported: Path) -> None:
    said = typed("export", "--verify", str(exported), "--json")
    assert said.returncode == 0, said.stderr
    told, first = json.loads(said.stdout), json.loads((exported / "parity.json").read_text())
    # Same images, same runtime: the same table.
    assert told["parity"] | {"forms": told["forms"]} == first
    assert [form["file"] for form in told["forms"]] == ["cascade.onnx"]
    assert told["forms"][0]["decisions"] > 0
    words = typed("export", "--verify", str(exported)).stdout
    assert "every file is whole, and it decides like the trained network on" in words
    # The images' true classes are in the bundle: accuracy is asked again too.
    assert "accuracy as trained" in words
    answers = reference.load(exported / bundle.REFERENCE)
    right = (answers.logits[0].argmax(axis=1) == answers.labels).mean()
    assert told["parity"]["accuracy"][0]["before"] == right


def test_other_options_have_no_meaning_beside_verify(exported: Path) -> None:
    said = typed("export", "--verify", str(exported), "--exits", "2")
    assert (said.returncode, said.stdout) == (2, "")
    assert "--verify: no run is exported, so exits has no meaning" in said.stderr


def test_a_network_that_decides_otherwise_fails_whoever_signed_it(copied: Path) -> None:
    model = onnx.load(copied / "segment_4.onnx")
    bias = next(w for w in model.graph.initializer if w.name.endswith("classifier.bias"))
    values = numpy_helper.to_array(bias).copy()
    values[0] += 0.5
    bias.CopyFrom(numpy_helper.from_array(values, bias.name))
    onnx.save(model, copied / "segment_4.onnx")
    with pytest.raises(BundleError, match="was edited"):
        verify.verify(copied)
    sign(copied)
    with pytest.raises(ParityError, match=r"exit 4: a logit is off by 0\.5"):
        verify.verify(copied)
    said = typed("export", "--verify", str(copied))
    assert (said.returncode, said.stdout) == (1, "")
    # What failed, exit by exit, and then the error.
    heading, *rows, error = said.stderr.splitlines()
    assert heading.split()[:2] == ["exit", "images"]
    assert [row.split()[0] for row in rows] == ["2", "4"]
    assert error.startswith("error: an export that decides like the trained network")


def test_another_normalisation_in_the_manifest_fails(copied: Path) -> None:
    manifest = bundle.read_manifest(copied)
    image = dataclasses.replace(manifest.image, mean=(0.0, 0.0, 0.0))
    bundle.write_manifest(copied, dataclasses.replace(manifest, image=image))
    with pytest.raises(ParityError, match="a logit is off by"):
        verify.verify(copied)


def test_anothers_policy_and_anothers_answers_are_refused(copied: Path) -> None:
    policy = Policy.read(copied / bundle.POLICY)
    dataclasses.replace(policy, network="other").write(copied / bundle.POLICY)
    with pytest.raises(BundleError):
        verify.verify(copied)
    policy.write(copied / bundle.POLICY)
    answers = reference.load(copied / bundle.REFERENCE)
    dataclasses.replace(answers, exits=(1, 4)).save(copied / bundle.REFERENCE)
    sign(copied)
    with pytest.raises(BundleError, match=r"those of exits \(1, 4\)"):
        verify.verify(copied)


def test_a_cascade_that_decides_otherwise_fails(copied: Path) -> None:
    model = onnx.load(copied / "cascade.onnx")
    gathered = [w for w in model.graph.initializer if w.name.endswith("classifier.bias")]
    values = numpy_helper.to_array(gathered[0]).copy()
    values[0] += 5.0
    gathered[0].CopyFrom(numpy_helper.from_array(values, gathered[0].name))
    onnx.save(model, copied / "cascade.onnx")
    sign(copied)
    with pytest.raises(ParityError, match=r"cascade\.onnx deciding like .*: \d+ of \d+ decisions"):
        verify.verify(copied)


def test_temperatures_beside_a_cascade_must_be_its_own(copied: Path) -> None:
    policy = Policy.read(copied / bundle.POLICY)
    dataclasses.replace(policy, temperatures=(1.0, 9.0)).write(copied / bundle.POLICY)
    with pytest.raises(BundleError, match=r"temperatures \[1\.0, 9\.0\]"):
        verify.verify(copied)
    dataclasses.replace(policy, thresholds=(0.123,)).write(copied / bundle.POLICY)
    assert verify.verify(copied).forms[0].failures == ()  # thresholds are its input


def test_a_precision_that_is_not_that_of_the_files_is_refused(copied: Path) -> None:
    manifest = bundle.read_manifest(copied)
    wide = dataclasses.replace(manifest, precision="int8")  # whose limits are wider
    bundle.write_manifest(copied, wide)
    with pytest.raises(BundleError, match="precision int8 and the segments make another network"):
        verify.verify(copied)


def test_images_and_answers_are_those_of_the_held_out_split(
    exported: Path, trained_run: Run
) -> None:
    from exitkit import scores

    found = reference.load(exported / bundle.REFERENCE)
    table = scores.load(trained_run.scores("tune"))
    rows = np.linspace(0, len(table.labels) - 1, len(found)).round().astype(int)
    np.testing.assert_array_equal(found.labels, table.labels[rows])
    np.testing.assert_allclose(found.logits, table.logits[[1, 3]][:, rows], atol=1e-4)


def test_inspect_shows_what_lies_there(exported: Path) -> None:
    said = typed("inspect", str(exported), "--json")
    assert said.returncode == 0, said.stderr
    table = json.loads(said.stdout)
    manifest = bundle.read_manifest(exported)
    assert [row["exit"] for row in table["segments"]] == [2, 4]
    assert [row["macs"] for row in table["segments"]] == [s.macs for s in manifest.segments]
    first, second = (row["mb"] * 1e6 for row in table["segments"])
    assert first == pytest.approx((exported / "segment_2.onnx").stat().st_size)
    assert second > first
    assert table["policy"] == Policy.read(exported / bundle.POLICY).to_json()
    assert (table["precision"], table["engines"]) == ("float32", [])
    assert [(row["kind"], row["file"]) for row in table["forms"]] == [("cascade", "cascade.onnx")]
    words = typed("inspect", str(exported)).stdout
    assert "deep on resnet18, 3 classes, images 32x32, precision float32" in words
    assert "segment_2.onnx" in words
    assert "parity at export: passed" in words


def test_inspect_refuses_a_bundle_without_a_proof(copied: Path) -> None:
    (copied / bundle.PARITY).write_text("{}")
    sign(copied)
    said = typed("inspect", str(copied))
    assert (said.returncode, said.stdout) == (2, "")
    assert "parity.json: no proof" in said.stderr
    (copied / bundle.PARITY).unlink()
    sign(copied)
    said = typed("inspect", str(copied))
    assert (said.returncode, said.stdout) == (2, "")
    assert "parity.json: no proof" in said.stderr


def test_inspect_names_an_engine_from_another_network(copied: Path) -> None:
    manifest = bundle.read_manifest(copied)
    (copied / "segment_4.engine").write_bytes(b"plan")
    engine = bundle.EngineFile(
        "segment_4.engine", "tensorrt", "11.4", ("sm90",), "NVIDIA H100", (1, 8, 64), "old"
    )
    first, last = manifest.segments
    told = dataclasses.replace(manifest, segments=(first, dataclasses.replace(last, engine=engine)))
    bundle.write_manifest(copied, told)
    said = typed("inspect", str(copied))
    assert "tensorrt 11.4" in said.stdout
    assert "stale: not from this segment_4.onnx" in said.stdout
