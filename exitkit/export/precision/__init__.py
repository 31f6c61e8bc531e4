"""Segments in another precision: converted one by one, their policy fitted again."""

PRECISIONS = ("float32", "fp16", "int8")
