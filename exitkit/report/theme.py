"""Colours and type of the figures, once for light and once for dark pages."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.colors import LinearSegmentedColormap, to_hex


@dataclass(frozen=True)
class Theme:
    """One look.

    Attributes:
        paper: behind everything ("none" in the page, whose own colour shows through).
        ink, muted, grid: text and lines that matter, that matter less, that only guide.
        line: the curve of the sweep; accent: the recommended point.
        shallow, deep: ends of the scale on which the exits lie; label: text upon it.
    """

    paper: str
    ink: str
    muted: str
    grid: str
    line: str
    accent: str
    shallow: str
    deep: str
    label: str

    def exit_colours(self, count: int) -> list[str]:
        """Return one colour per exit, shallow to deep."""
        scale = LinearSegmentedColormap.from_list("exits", [self.shallow, self.line, self.deep])
        return [to_hex(scale(i / max(count - 1, 1))) for i in range(count)]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Draw in this look inside the block; matplotlib's own settings come back after it."""
        with mpl.rc_context(self._settings()):
            yield

    def _settings(self) -> dict[Any, Any]:  # Any: matplotlib lists 300 names
        return {
            "figure.facecolor": self.paper,
            "savefig.facecolor": self.paper,
            "axes.facecolor": "none",
            "text.color": self.ink,
            "axes.labelcolor": self.muted,
            "axes.edgecolor": self.grid,
            "xtick.color": self.muted,
            "ytick.color": self.muted,
            "grid.color": self.grid,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.linewidth": 0.8,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.spines.left": False,
            "xtick.major.size": 0,
            "ytick.major.size": 0,
            "font.size": 10,
            "font.family": "DejaVu Sans",
            "axes.titlesize": 11,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.titlepad": 12,
            "axes.labelsize": 9.5,
            "legend.frameon": False,
            "legend.fontsize": 9,
            "svg.fonttype": "path",
            # The same input gives the same bytes.
            "svg.hashsalt": "exitkit",
        }


LIGHT = Theme(
    paper="none",
    ink="#1d2733",
    muted="#5b6876",
    grid="#e3e8ee",
    line="#2f7fb8",
    accent="#e0662f",
    shallow="#6cc3b0",
    deep="#3b3f8f",
    label="#ffffff",
)
DARK = Theme(
    paper="none",
    ink="#e8edf3",
    muted="#9aa7b5",
    grid="#2b3542",
    line="#5aa9df",
    accent="#ff9359",
    shallow="#6fd6bf",
    deep="#a59bf2",
    label="#10161d",
)
PRINT = Theme(**{**vars(LIGHT), "paper": "#ffffff"})
