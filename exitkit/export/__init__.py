"""From a trained run to a bundle: segments as ONNX, the parity gate, engines, the package."""
