"""What a server holds for good is passed over by Python's collector, and still freed when left."""

import subprocess
import sys

SETTLED = """
import gc, weakref
from exitkit.serve import garbage

class Ring:
    def __init__(self):
        self.me = self

first, second = Ring(), Ring()
gone, left = weakref.ref(first), weakref.ref(second)
garbage.settle()
assert gc.get_freeze_count() > 0
del first
gc.collect()
assert gone() is not None, "looked at what was settled"
garbage.collect()
assert gone() is None
assert left() is not None and gc.get_freeze_count() > 0
"""
LOOSE = """
import gc
from exitkit.serve import garbage
garbage.collect()
assert gc.get_freeze_count() == 0
"""


def test_what_was_settled_is_passed_over_until_it_is_collected() -> None:
    for program in (SETTLED, LOOSE):
        subprocess.run([sys.executable, "-c", program], check=True)
