"""A model repository for NVIDIA's Triton Inference Server, made of a bundle's files."""

from exitkit.export.triton.repository import write
from exitkit.export.triton.whole import of_bundle

__all__ = ["of_bundle", "write"]
