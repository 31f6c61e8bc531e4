"""What a form computes: which rows reach which segment, and where the weights lie."""

import json
from collections.abc import Iterator
from pathlib import Path

import hand_made
import numpy as np
import onnx
import onnxruntime
import pytest
from hand_made import EXITS, TEMPERATURES

from exitkit.engine.engine import Engine
from exitkit.export.forms.table import FORMS


@pytest.fixture(scope="module")
def written(files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("forms")
    for name, write in FORMS.items():
        write(files, EXITS, TEMPERATURES, folder / f"{name}.onnx", {})
    return {name: folder / f"{name}.onnx" for name in FORMS}


def rows_computed(
    form: Path, images: np.ndarray, levels: tuple[float, float], folder: Path
) -> dict[str, int]:
    """Return how many rows each convolution got, by the runtime's own account."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    session = onnxruntime.InferenceSession(str(form), options)
    session.run(["exit"], {"images": images, "thresholds": np.array(levels, dtype=np.float32)})
    events = json.loads(Path(session.end_profiling()).read_text())
    return {
        event["name"].split("/")[0]: event["args"]["input_type_shape"][0]["float"][0]
        for event in events
        if event["name"].endswith("convolution_kernel_time")
    }


def test_a_segment_of_the_cascade_gets_just_the_rows_that_reach_it(
    written: dict[str, Path], engine: Engine, tmp_path: Path
) -> None:
    images = hand_made.images(40)
    exits = engine.answer(images, thresholds=[0.75, 0.85]).exit
    reach = [int((exits >= number).sum()) for number in EXITS]
    assert reach[0] == 40
    assert 5 < reach[2] < reach[1] < 35
    found = rows_computed(written["cascade"], images, (0.75, 0.85), tmp_path)
    assert found == {"exit1": reach[0], "exit2": reach[1], "exit4": reach[2]}


@pytest.mark.parametrize("name", ["cascade", "chain"])
def test_once_all_rows_have_left_nothing_more_runs(
    name: str, written: dict[str, Path], tmp_path: Path
) -> None:
    images = hand_made.images(6)
    assert rows_computed(written[name], images, (0.0, 0.0), tmp_path) == {"exit1": 6}
    assert rows_computed(written[name], images, (2.0, 2.0), tmp_path) == {
        "exit1": 6,
        "exit2": 6,
        "exit4": 6,
    }


def test_in_the_chain_all_rows_go_on_together(written: dict[str, Path], tmp_path: Path) -> None:
    images = hand_made.images(40)
    found = rows_computed(written["chain"], images, (0.75, 0.85), tmp_path)
    assert found == {"exit1": 40, "exit2": 40, "exit4": 40}


def test_all_computes_every_exit(written: dict[str, Path], tmp_path: Path) -> None:
    found = rows_computed(written["all"], hand_made.images(6), (0.0, 0.0), tmp_path)
    assert found == {"exit1": 6, "exit2": 6, "exit4": 6}


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from graphs(attribute.g)


@pytest.mark.parametrize("name", FORMS)
def test_every_weight_is_there_once_and_beside_the_operator_that_uses_it(
    name: str, written: dict[str, Path]
) -> None:
    # A runtime arranges a convolution's weights for itself only where it finds them in the same
    # graph: weights outside the branch made the cascade of a resnet18 up to 7 % slower.
    top = onnx.load_model(written[name]).graph
    weights = [
        tensor.name for graph in graphs(top) for tensor in graph.initializer if len(tensor.dims) > 1
    ]
    assert sorted(weights) == [f"exit{k}/{part}" for k in EXITS for part in ("kernel", "matrix")]
    for graph in graphs(top):
        own = {tensor.name for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Conv":
                assert set(node.input[1:]) <= own


@pytest.mark.parametrize("name", FORMS)
def test_no_two_values_of_a_file_share_a_name(name: str, written: dict[str, Path]) -> None:
    names = [
        made
        for graph in graphs(onnx.load_model(written[name]).graph)
        for made in (
            *(tensor.name for tensor in graph.initializer),
            *(output for node in graph.node for output in node.output),
        )
    ]
    assert len(names) == len(set(names))


def test_a_file_has_the_segments_opset_and_format(
    files: list[Path], written: dict[str, Path]
) -> None:
    segment = onnx.load_model(files[0])
    for path in written.values():
        model = onnx.load_model(path)
        assert list(model.opset_import) == list(segment.opset_import)
        assert model.ir_version == segment.ir_version
