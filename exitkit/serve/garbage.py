"""Python's collector in a process that serves: what stays for good is looked at no more.

A server holds some hundred thousand objects that live as long as it does. Under load requests make
enough new ones for Python to look through all of them again and again, which takes a sixth of the
throughput of a small network (docs/notes.md).
"""

import gc


def settle() -> None:
    """Free what nobody holds, and let later collections pass over all that is there now."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def collect() -> None:
    """Free what nobody holds any more, also of what was settled."""
    if gc.get_freeze_count():
        settle()
    else:
        gc.collect()
