from pathlib import Path

import hand_made
import numpy as np
import onnx
import pytest
from hand_made import EXITS, TEMPERATURES
from onnx import numpy_helper

from exitkit.errors import ExportError
from exitkit.export.forms import cascade
from exitkit.export.forms.table import FORMS


def assert_refused(
    files: list[Path], path: Path, words: str, exits: tuple[int, ...] = EXITS
) -> None:
    for write in FORMS.values():
        with pytest.raises(ExportError, match=words):
            write(files, exits, TEMPERATURES, path, {})
    assert not path.exists()


def test_there_is_one_of_each_per_exit(files: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "form.onnx"
    assert_refused(files[:2], target, "2 files, 3 exits and 3 temperatures")
    assert_refused(files, target, "3 files, 2 exits and 3 temperatures", exits=(1, 2))
    with pytest.raises(ExportError, match="0 files, 0 exits"):
        cascade.write([], [], [], target, {})


def test_segments_in_another_order_are_refused(files: list[Path], tmp_path: Path) -> None:
    first, second, last = files
    target = tmp_path / "form.onnx"
    assert_refused([second, first, last], target, r"exit 2 after exit 1: it takes \[3, 8, 8\]")
    assert_refused(
        [first, last, second], target, "exit 4 as the deepest: its segment hands something on"
    )


def test_a_segment_with_other_classes_is_refused(files: list[Path], tmp_path: Path) -> None:
    other = hand_made.segment(1, tmp_path / "segment_2.onnx", classes=7)
    found = "names 7 classes; the one before gives .* and names 5"
    assert_refused([files[0], other, files[2]], tmp_path / "form.onnx", found)


def test_a_file_that_is_no_segment_is_refused(files: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "form.onnx"
    cascade.write(files, EXITS, TEMPERATURES, tmp_path / "whole.onnx", {})
    assert_refused(
        [tmp_path / "whole.onnx", *files[1:]], target, "whole.onnx as the segment of exit 1"
    )
    (tmp_path / "broken.onnx").write_bytes(b"not a graph")
    assert_refused([tmp_path / "broken.onnx", *files[1:]], target, r"broken\.onnx: cannot be read")
    assert_refused([tmp_path / "absent.onnx", *files[1:]], target, r"absent\.onnx: cannot be read")


def test_a_map_of_unknown_size_is_refused(files: list[Path], tmp_path: Path) -> None:
    model = onnx.load_model(files[1])
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    onnx.save_model(model, tmp_path / "free.onnx")
    files = [files[0], tmp_path / "free.onnx", files[2]]
    assert_refused(
        files, tmp_path / "form.onnx", r"free\.onnx .*: exit2/hidden has axes of unknown size"
    )


def test_weights_that_do_not_fit_together_are_refused(files: list[Path], tmp_path: Path) -> None:
    model = onnx.load(files[2])
    (matrix,) = [one for one in model.graph.initializer if one.name == "matrix"]
    wide = np.zeros((hand_made.MAPS[-1][0] + 1, hand_made.CLASSES), dtype=np.float32)
    matrix.CopyFrom(numpy_helper.from_array(wide, "matrix"))
    onnx.save_model(model, tmp_path / "segment.onnx")
    found = [*files[:2], tmp_path / "segment.onnx"]
    assert_refused(
        found, tmp_path / "form.onnx", r"form\.onnx of 3 segments: ONNX's checker refused"
    )


def test_segments_of_two_opsets_are_refused(files: list[Path], tmp_path: Path) -> None:
    other = hand_made.segment(2, tmp_path / "segment_4.onnx", opset=18)
    found = r"segment_4\.onnx has opset 18, one before it has 20"
    assert_refused([*files[:2], other], tmp_path / "form.onnx", found)


@pytest.mark.parametrize("opset", [18, 22])
def test_other_opsets_of_all_segments_are_kept(opset: int, tmp_path: Path) -> None:
    files = [hand_made.segment(k, tmp_path / f"{k}.onnx", opset=opset) for k in range(3)]
    for name, write in FORMS.items():
        write(files, EXITS, TEMPERATURES, tmp_path / f"{name}.onnx", {})
        model = onnx.load_model(tmp_path / f"{name}.onnx")
        assert [entry.version for entry in model.opset_import] == [opset]


def test_an_opset_without_the_operators_is_refused(tmp_path: Path) -> None:
    files = [hand_made.segment(k, tmp_path / f"{k}.onnx", opset=17) for k in range(3)]
    assert_refused(files, tmp_path / "form.onnx", "they have opset 17")


def test_functions_in_a_segment_become_operators(files: list[Path], tmp_path: Path) -> None:
    model = onnx.load_model(files[0])
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    body = onnx.helper.make_node("Relu", ["x"], ["y"])
    opsets = list(model.opset_import)
    model.functions.append(onnx.helper.make_function("own", "Gate", ["x"], ["y"], [body], opsets))
    model.opset_import.append(onnx.helper.make_opsetid("own", 1))
    relu.op_type, relu.domain = "Gate", "own"
    onnx.save_model(model, tmp_path / "functions.onnx")
    target = tmp_path / "form.onnx"
    cascade.write([tmp_path / "functions.onnx", *files[1:]], EXITS, TEMPERATURES, target, {})
    written = onnx.load_model(target)
    assert not written.functions
    assert "Gate" not in {node.op_type for node in written.graph.node}


def test_domains_that_no_operator_needs_are_left_out(files: list[Path], tmp_path: Path) -> None:
    model = onnx.load_model(files[0])
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft.nchwc", 1))
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    relu.op_type, relu.domain = "QuickGelu", "com.microsoft"
    onnx.save_model(model, tmp_path / "more.onnx")
    target = tmp_path / "form.onnx"
    cascade.write([tmp_path / "more.onnx", *files[1:]], EXITS, TEMPERATURES, target, {})
    domains = {entry.domain: entry.version for entry in onnx.load_model(target).opset_import}
    assert domains == {"": 20, "com.microsoft": 1}
