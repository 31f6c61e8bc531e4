"""Memory that a model leaves behind goes back to the system, not only to the allocator."""

import ctypes
import sys

from exitkit.serve import garbage


def give_back() -> None:
    """Free what nobody holds any more; takes tens of milliseconds.

    glibc keeps what was freed for later, per thread: a server that reloads a model again and
    again would come to hold several of them. Other allocators return it by themselves.
    """
    garbage.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # only glibc has it
        if trim is not None:
            trim(0)
