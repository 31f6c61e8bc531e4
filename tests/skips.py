"""Fail when a test was skipped that is not in tests/allowed-skips.txt.

python tests/skips.py test.log
"""

import re
import sys
from pathlib import Path

ALLOWED = Path(__file__).with_name("allowed-skips.txt")


def refused(log: str, allowed: list[str]) -> list[str]:
    """Return the SKIPPED lines of pytest's short summary that match no allowed pattern."""
    patterns = [re.compile(line) for line in allowed if line and not line.startswith("#")]
    skipped = [line for line in log.splitlines() if line.startswith("SKIPPED")]
    return [line for line in skipped if not any(pattern.search(line) for pattern in patterns)]


if __name__ == "__main__":
    lines = refused(Path(sys.argv[1]).read_text(), ALLOWED.read_text().splitlines())
    for line in lines:
        sys.stderr.write(f"skipped, but not in {ALLOWED.name}: {line}\n")
    sys.exit(bool(lines))
