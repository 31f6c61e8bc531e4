"""Memory of models that were replaced or unloaded goes back."""

import gc
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from exitkit import bundle
from exitkit.serve import shelf
from exitkit.serve.settings import Settings

Write = Callable[[Path], Path]
GROW = """
import sys
from pathlib import Path
import numpy as np
from exitkit.serve import shelf
from exitkit.serve.settings import Settings

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

small, large = map(Path, sys.argv[1:])
models = shelf.collect(Settings((small,), pool="private", threads=1))
models.start()
seen = []
for _ in range(6):
    models.load(large.name)
    models.load(large.name)
    with models.use(large.name) as service:
        service.scheduler.submit(np.ones((32, 3, 32, 32), np.float32)).result(60)
    models.unload(large.name)
    seen.append(resident())
models.stop()
print(max(seen[1:]) - seen[0])
"""


def test_loading_and_unloading_does_not_grow(tmp_path: Path, bundle_at: Write) -> None:
    """In megabytes of the process, not of Python: what was freed went back to the system."""
    large = heavy(bundle_at(tmp_path / "large"))
    command = [sys.executable, "-c", GROW, str(bundle_at(tmp_path / "small")), str(large)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 5


def heavy(folder: Path) -> Path:
    """Give the deepest segment of a bundle 36 MB of weights, which change no answer."""
    file = folder / "segment_4.onnx"
    model = onnx.load(file)
    sizes = {"wide": (3, 3000), "square": (3000, 3000), "narrow": (3000, 3)}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in sizes.items()
    )
    last = model.graph.node[-1]
    last.output[0] = before = "alone"
    for name in sizes:
        model.graph.node.append(onnx.helper.make_node("MatMul", [before, name], [f"by_{name}"]))
        before = f"by_{name}"
    model.graph.node.append(onnx.helper.make_node("Add", ["alone", before], ["logits"]))
    file.write_bytes(model.SerializeToString())
    bundle.write_manifest(folder, bundle.read_manifest(folder, verify=False))
    return folder


def test_a_model_that_was_replaced_or_unloaded_leaves_nothing_behind(
    tmp_path: Path, bundle_at: Write
) -> None:
    models = shelf.collect(Settings((bundle_at(tmp_path / "first"),), pool="private", threads=1))
    models.start()
    with models.use("first") as service:
        service.scheduler.submit(np.ones((40, 3, 32, 32), np.float32)).result(10)
        gone = [weakref.ref(service.model.engine), weakref.ref(service.scheduler)]
        gone += [weakref.ref(segment) for segment in service.model.engine.segments]
    models.load("first")
    del service
    gc.collect()
    assert [one() for one in gone] == [None] * 4
    last = weakref.ref(models.get("first").model.engine)
    models.unload("first")
    gc.collect()
    assert last() is None
    models.stop()
