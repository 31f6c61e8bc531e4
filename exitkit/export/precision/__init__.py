"""Segments in another precision: converted one by one, their policy fitted again."""

from exitkit.bundle import PRECISIONS

__all__ = ["PRECISIONS"]
