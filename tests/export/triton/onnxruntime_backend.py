"""A backend "onnxruntime" in Python, for a Triton server that comes without the real one.

It lies as backends/onnxruntime/model.py; Triton runs it through its Python backend. What the
configuration promises is checked and converted by Triton's core, as with the real backend.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        folder = Path(args["model_repository"]) / args["model_version"]
        self.session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options)
        self.inputs = [entry["name"] for entry in config["input"]]
        self.outputs = [entry["name"] for entry in config["output"]]

    def execute(self, requests: list[Any]) -> list[Any]:
        joined = {
            name: np.concatenate(
                [
                    pb_utils.get_input_tensor_by_name(request, name).as_numpy()
                    for request in requests
                ]
            )
            for name in self.inputs
        }
        results = self.session.run(self.outputs, joined)
        responses, begin = [], 0
        for request in requests:
            end = begin + len(request.inputs()[0].as_numpy())
            tensors = [
                pb_utils.Tensor(name, np.ascontiguousarray(result[begin:end]))
                for name, result in zip(self.outputs, results, strict=True)
            ]
            responses.append(pb_utils.InferenceResponse(output_tensors=tensors))
            begin = end
        return responses
