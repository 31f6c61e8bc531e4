import dataclasses
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest

from exitkit import bundle
from exitkit.engine import ort
from exitkit.errors import BundleError, ConfigError, EngineError


def test_segments_say_what_they_are(tiny: Path) -> None:
    segments = ort.load(tiny, bundle.read_manifest(tiny), threads=1)
    assert [s.exit for s in segments] == [1, 2, 3]
    assert [s.input_shape for s in segments] == [(3, 8, 8), (4, 8, 8), (6, 8, 8)]
    assert {(s.classes, s.pool, s.threads) for s in segments} == {(5, "private", 1)}


def test_the_deepest_gives_no_hidden_and_outputs_are_not_copied(engine, images) -> None:
    logits, hidden = engine.segments[0].run(images)
    assert logits.shape == (64, 5)
    assert hidden is not None
    assert hidden.shape == (64, 4, 8, 8)
    assert not hidden.flags.owndata  # the runtime's own memory, handed over
    assert engine.segments[2].run(np.zeros((1, 6, 8, 8), np.float32))[1] is None


def test_what_was_handed_over_stays_whole(engine, images) -> None:
    logits, hidden = engine.segments[0].run(images)
    kept = logits.copy(), hidden.copy()
    for _ in range(20):
        engine.segments[0].run(images * 2)
    assert (logits == kept[0]).all()
    assert (hidden == kept[1]).all()


def test_a_segment_by_hand(tmp_path: Path, tiny: Path) -> None:
    model = onnx.load(tiny / "segment_3.onnx")
    weights = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    hidden = np.random.default_rng(0).normal(0, 1, (1, 6, 8, 8)).astype(np.float32)
    padded = np.pad(hidden[0], ((0, 0), (1, 1), (1, 1)))
    pooled = np.zeros(8)
    for d in range(8):
        for y in range(8):
            for x in range(8):
                window = padded[:, y : y + 3, x : x + 3]
                pooled[d] += max(0.0, float((window * weights["kernel"][d]).sum())) / 64
    segment = ort.load(tiny, bundle.read_manifest(tiny), threads=1)[2]
    assert np.allclose(segment.run(hidden)[0][0], pooled @ weights["matrix"], atol=1e-4)


def test_several_threads_may_run_one_segment(engine, images) -> None:
    expected = engine.answer(images)
    found = []

    def ask() -> None:
        for _ in range(5):
            answers = engine.answer(images)
            found.append(
                (answers.exit == expected.exit).all() and (answers.label == expected.label).all()
            )

    workers = [threading.Thread(target=ask) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == [True] * 20


def test_unknown_names_list_the_choices(tiny: Path) -> None:
    manifest = bundle.read_manifest(tiny)
    with pytest.raises(ConfigError, match="choose one of: private, shared"):
        ort.load(tiny, manifest, pool="global")
    with pytest.raises(ConfigError, match="ask for 1 or more"):
        ort.load(tiny, manifest, threads=0)


def test_a_file_that_is_no_network_is_refused(make_bundle) -> None:
    folder = make_bundle()
    manifest = bundle.read_manifest(folder)
    (folder / "segment_2.onnx").write_bytes(b"not an onnx file")
    with pytest.raises(EngineError, match=r"segment_2.onnx: cannot be loaded"):
        ort.load(folder, manifest)
    (folder / "segment_2.onnx").unlink()
    with pytest.raises(EngineError, match=r"segment_2.onnx: cannot be loaded"):
        ort.load(folder, manifest)


def test_other_inputs_and_outputs_are_refused(make_bundle) -> None:
    folder = make_bundle()
    manifest = bundle.read_manifest(folder)
    (folder / "segment_2.onnx").write_bytes((folder / "segment_3.onnx").read_bytes())
    with pytest.raises(EngineError, match=r"outputs \['logits', 'hidden_out'\]"):
        ort.load(folder, manifest)


# The shared pool is the process's for good, so each of these has a process of its own.
START = """
import sys
from pathlib import Path
import onnxruntime
from exitkit import bundle
from exitkit.engine import ort
folder = Path(sys.argv[1]); manifest = bundle.read_manifest(folder)
"""


def run(script: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", START + script, str(folder)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_the_shared_pool_is_made_once_and_keeps_its_size(tiny: Path) -> None:
    script = """
import numpy as np
private = ort.load(folder, manifest, threads=1)
first = ort.load(folder, manifest, pool="shared", threads=2)
again = ort.load(folder, manifest, pool="shared", threads=2)
images = np.ones((3, 3, 8, 8), np.float32)
print([float(np.abs(s[0].run(images)[0] - private[0].run(images)[0]).max()) < 1e-5
       for s in (first, again)], first[0].pool, first[0].threads)
try:
    ort.load(folder, manifest, pool="shared", threads=3)
except ort.ConfigError as error:
    print(error)
"""
    lines = run(script, tiny).splitlines()
    assert lines[0] == "[True, True] shared 2"
    assert lines[1].startswith("a shared pool of 3 threads: this process has one of 2,")


def test_a_pool_that_somebody_else_made_is_refused(tiny: Path) -> None:
    script = """
onnxruntime.set_global_thread_pool_sizes(2, 1)
try:
    ort.load(folder, manifest, pool="shared", threads=2)
except ort.ConfigError as error:
    print(error)
"""
    assert "exitkit did not make" in run(script, tiny)


def test_importing_and_private_pools_leave_the_shared_pool_alone(tiny: Path) -> None:
    script = """
import exitkit.engine.model
ort.load(folder, manifest)
onnxruntime.set_global_thread_pool_sizes(1, 1)  # fails where one is there already
print("free", "torch" in sys.modules)
"""
    assert run(script, tiny) == "free False\n"


def test_a_manifest_with_other_sizes_than_the_files_is_refused(tiny: Path) -> None:
    manifest = bundle.read_manifest(tiny)
    more = dataclasses.replace(manifest, classes=(*manifest.classes, "hen"))
    with pytest.raises(BundleError, match=r"segment_1\.onnx with 6 classes.*it has 5 classes"):
        ort.load(tiny, more, threads=1)
    first, second, third = manifest.segments
    wider = dataclasses.replace(second, input_shape=(4, 8, 9))
    with pytest.raises(BundleError, match=r"segment_2\.onnx .*takes \[4, 8, 8\]"):
        ort.load(tiny, dataclasses.replace(manifest, segments=(first, wider, third)), threads=1)
