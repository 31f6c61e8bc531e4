from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from schema import ModelConfig, parse

from exitkit.export.triton.prototext import Word, quoted, text


def test_every_kind_of_value() -> None:
    message = {
        "name": 'a "quoted" \\ name\n',
        "max_batch_size": 7,
        "input": [
            {"name": "x", "data_type": Word("TYPE_FP32"), "dims": (3, -1), "optional": True},
            {"name": "y", "data_type": Word("TYPE_INT64"), "dims": (1,), "reshape": {"shape": ()}},
        ],
        "dynamic_batching": {},
    }
    assert text(message) == (
        'name: "a \\"quoted\\" \\\\ name\\n"\n'
        "max_batch_size: 7\n"
        'input { name: "x" data_type: TYPE_FP32 dims: [3, -1] optional: true }\n'
        'input { name: "y" data_type: TYPE_INT64 dims: [1] reshape { shape: [] } }\n'
        "dynamic_batching { }\n"
    )
    found = parse(text(message))
    assert found.name == 'a "quoted" \\ name\n'
    assert [list(entry.dims) for entry in found.input] == [[3, -1], [1]]
    assert found.input[1].HasField("reshape")
    assert not found.input[0].HasField("reshape")
    assert found.HasField("dynamic_batching")


def test_what_is_too_long_for_a_line_stands_below_each_other() -> None:
    long = {"key": "k" * 60, "value": {"string_value": "v" * 40}}
    assert text({"parameters": [long]}) == (
        f'parameters {{\n  key: "{"k" * 60}"\n  value {{ string_value: "{"v" * 40}" }}\n}}\n'
    )


@given(st.text())
def test_any_words_come_back(words: str) -> None:
    literal = quoted(words)
    assert literal.isascii()
    assert literal.isprintable()
    found = text_format.Parse(f"name: {literal}", ModelConfig())
    assert found.name == words
