"""What all figures have in common: title and setting above, the caption below, laid out in inches.

So that cells, bars and text keep their sizes whatever a study's. The colours are those of Okabe and Ito (2008),
which people with any kind of colour vision can tell apart.
"""

import textwrap
from collections.abc import Sequence
from itertools import cycle, islice

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from reports.manifest import Manifest

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#999999")
INK, GREY = "#222222", "#555555"
NARROWEST_INCHES = 7.5
_MARGIN = 0.2
_CAPTION_LINE, _TITLE_LINE = 0.17, 0.24
_LETTERS_PER_INCH = {8: 14.5, 13: 7.8}


class Canvas:
    """A figure with everything around its body; the body is the caller's.

    width, height: of the body in inches; the figure may be wider, to hold its title.
    """

    def __init__(self, manifest: Manifest, caption: Sequence[str], width: float, height: float):
        self.width = max(width, NARROWEST_INCHES)
        title = _wrapped([manifest.study.title or manifest.study.name], self.width, 13)
        lines = _wrapped(caption, self.width, 8)
        self._top = 0.56 + _TITLE_LINE * len(title)
        below = 0.12 + _CAPTION_LINE * len(lines)
        self._height = self._top + height + below
        self._body = height
        self.figure = Figure(figsize=(self.width, self._height), facecolor="white")
        for number, line in enumerate(title):
            self._write(_MARGIN, 0.18 + _TITLE_LINE * number, line, 13, INK, "bold")
        self._write(_MARGIN, 0.22 + _TITLE_LINE * len(title), manifest.setting, 10, GREY)
        for number, line in enumerate(lines):
            self._write(_MARGIN, self._top + height + 0.04 + _CAPTION_LINE * number, line, 8, INK)

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes at a place of the body, in inches from its upper left corner."""
        bottom = self._height - self._top - top - height
        place = (left / self.width, bottom / self._height, width / self.width, height / self._height)
        return self.figure.add_axes(place)

    def put(self, x: float, y: float, text: str, size: float = 9, weight: str = "normal", align: str = "left") -> None:
        """Text in the body, its middle `y` inches below the body's top."""
        place = (x / self.width, 1 - (self._top + y) / self._height)
        self.figure.text(*place, text, fontsize=size, fontweight=weight, ha=align, va="center")

    def height_of(self, y: float) -> float:
        """The place of `y` inches below the body's top, as a share of the figure's height."""
        return 1 - (self._top + y) / self._height

    def arrange(self, below: float = 0.0) -> None:
        """Let matplotlib place the figure's axes within the body, less a strip of `below` inches at its bottom."""
        place = (0.01, self.height_of(self._body - below), 0.98, (self._body - below) / self._height)
        self.figure.set_layout_engine(
            ConstrainedLayoutEngine(rect=place, w_pad=0.08, h_pad=0.06, wspace=0.04, hspace=0.06)
        )

    def _write(self, x: float, y: float, text: str, size: float, colour: str, weight: str = "normal") -> None:
        place = (x / self.width, 1 - y / self._height)
        self.figure.text(*place, text, fontsize=size, fontweight=weight, color=colour, va="top")


def _wrapped(lines: Sequence[str], width: float, size: int) -> list[str]:
    letters = int((width - 2 * _MARGIN) * _LETTERS_PER_INCH[size])
    return [part for line in lines for part in textwrap.wrap(line, letters)]


def colours(count: int) -> list[str]:
    """One colour for each of `count` things; of more than there are, some have the same."""
    return list(islice(cycle(COLOURS), count))
