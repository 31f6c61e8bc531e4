"""A model repository for NVIDIA's Triton Inference Server, made of a bundle's files."""

from exitkit.export.triton.repository import write

__all__ = ["write"]
