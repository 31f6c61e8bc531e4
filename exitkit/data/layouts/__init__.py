"""Data sets of the papers in the folders in which they are distributed, recognised by their files.

A layout only lists files: everything else is as for any image folder (exitkit.data.folder).
"""

from pathlib import Path

from exitkit.data.layouts import caltech, cub, dogs, imagenet, tiny_imagenet
from exitkit.data.layouts.layout import Layout

__all__ = ["LAYOUTS", "Layout", "recognise"]

LAYOUTS = (
    tiny_imagenet.LAYOUT,
    caltech.LAYOUT,
    dogs.LAYOUT,
    cub.LAYOUT,
    imagenet.LAYOUT,
)


def recognise(folder: Path) -> Layout | None:
    """Return the layout whose files lie in `folder`, or None where it is an ordinary folder."""
    return next((layout for layout in LAYOUTS if layout.here(folder)), None)
