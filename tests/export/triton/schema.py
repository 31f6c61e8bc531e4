"""Triton's own schema of model configurations, read from the tritonclient package."""

import importlib.util
from pathlib import Path
from typing import Any

from google.protobuf import json_format, text_format


def _module() -> Any:
    # The package's `grpc` folder cannot be imported as such without grpcio, which nothing needs.
    package = importlib.util.find_spec("tritonclient")
    assert package is not None
    assert package.submodule_search_locations
    file = Path(package.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ModelConfig = _module().ModelConfig


def parse(text: str) -> Any:
    """Read a config.pbtxt; a field that Triton does not know is an error."""
    return text_format.Parse(text, ModelConfig())


def as_json(config: Any) -> dict[str, Any]:
    """Return what Triton gives its backends: every field, 64-bit numbers as numbers."""
    table = json_format.MessageToDict(
        config, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    for tensor in (*table["input"], *table["output"]):
        tensor["dims"] = [int(size) for size in tensor["dims"]]
    return table
