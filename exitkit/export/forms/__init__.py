"""Forms of a bundle beside its segments: one ONNX file each, made from the segment files alone."""
