"""The forms that a claim's check can have: each turns a study's cells into numbers per seed.

The numbers are above zero where the claim holds. A form says which cells it needs and what it makes of
them; tests, corrections and verdicts are claims.py's, the same for all forms. To add a form: a class with
`selections` and `measure`, and its line in `FORMS`. Arrays end with _CS (cells x seeds), _S (seeds) or _C.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, permutations
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as typed_dataclass

from reports.manifest import plain
from reports.measurement import Measurement, NotMeasurable, Reduction, above_all, difference, least, single
from reports.selections import NOT, Selection, as_list
from reports.statistics import FEWEST_CELLS, spearman

Axes = Mapping[str, Sequence[Any]]


class Needed(NamedTuple):
    """Cells and one of their metrics ("": the claim's); all of them, or those with a number of the paper's."""

    cells: Selection
    metric: str = ""
    printed: bool = False


@dataclass(frozen=True)
class Values:
    """What was found for one `Needed`: the cells' axis values, their numbers and the paper's (NaN: none).

    published: other methods' numbers of the same metric by label, none where they do not compare.
    """

    points: Sequence[Mapping[str, Any]]
    axes: Axes
    own_CS: np.ndarray
    paper_C: np.ndarray
    published: Mapping[str, float] = field(default_factory=dict)


class Form(Protocol):
    """A check of a claim that looks at cells itself."""

    def selections(self) -> list[Needed]:
        """All cells that the check needs."""

    def measure(self, found: Sequence[Values]) -> Measurement:
        """The check as numbers; `found[i]` is for `selections()[i]`. Raises: NotMeasurable."""


_typed = typed_dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))


@_typed
class _Check:
    """What every form has: another metric than the study's, and axes at each value of which the check must hold."""

    metric: str = ""
    at_each: Selection = field(default_factory=dict)


@_typed
class _OfCells(_Check):
    """Looks at some cells alone."""

    cells: Selection

    def selections(self) -> list[Needed]:
        return [Needed(self.cells)]


@_typed
class MeanOf:
    """Some cells and one of their metrics, averaged."""

    cells: Selection = field(default_factory=dict)
    metric: str = ""


@_typed
class Side(MeanOf):
    """Some cells, one of their metrics, and how they become one number."""

    reduce: Reduction = "mean"


@_typed
class _OfTwo(_Check):
    """Compares `of` with `minus`."""

    of: MeanOf
    minus: MeanOf

    def selections(self) -> list[Needed]:
        return [Needed(side.cells, side.metric) for side in (self.of, self.minus)]


@_typed
class Difference(_OfTwo):
    """`of` is above `minus` by more than `margin`, in the units of the metric."""

    form: Literal["difference"]
    of: Side
    minus: Side
    margin: float = 0.0

    def measure(self, found: Sequence[Values]) -> Measurement:
        of, minus = found
        return difference(of.own_CS, minus.own_CS, self.of.reduce, self.minus.reduce).plus(-self.margin)


@_typed
class _Extreme(_Check):
    """One of `cells` is ahead of all others of `among`."""

    cells: Selection
    among: Selection = field(default_factory=dict)

    def selections(self) -> list[Needed]:
        others = {**self.among, NOT: [*as_list(self.among.get(NOT, [])), self.cells]}
        return [Needed(self.cells), Needed(others)]


@_typed
class Largest(_Extreme):
    """The largest cell of `among` is one of `cells`."""

    form: Literal["largest"]

    def measure(self, found: Sequence[Values]) -> Measurement:
        own, others = found
        return above_all(own.own_CS, others.own_CS)


@_typed
class Smallest(_Extreme):
    """The smallest cell of `among` is one of `cells`."""

    form: Literal["smallest"]

    def measure(self, found: Sequence[Values]) -> Measurement:
        own, others = found
        return above_all(-own.own_CS, -others.own_CS)


@_typed
class AbovePublished(_OfCells):
    """The largest of `cells` is above the number that the paper prints for each of some other `methods` (none: all)."""

    form: Literal["above_published"]
    cells: Selection = field(default_factory=dict)
    methods: list[str] = field(default_factory=list)

    def measure(self, found: Sequence[Values]) -> Measurement:
        (values,) = found
        if not values.published:
            raise NotMeasurable("other methods' numbers compare with those of the paper's own setting only")
        if missing := [label for label in self.methods if label not in values.published]:
            raise NotMeasurable(f"the paper prints no such number of {missing[0]}")
        numbers = [values.published[label] for label in self.methods or values.published]
        return above_all(values.own_CS, np.repeat(np.array(numbers)[:, None], values.own_CS.shape[1], axis=1))


@_typed
class Equal(_OfTwo):
    """`of` and `minus` differ by less than `within`: two one-sided tests (Schuirmann 1987)."""

    form: Literal["equal"]
    of: Side
    minus: Side
    within: float

    def measure(self, found: Sequence[Values]) -> Measurement:
        of, minus = (values.own_CS for values in found)
        above = difference(minus, of, self.minus.reduce, self.of.reduce).plus(self.within)
        below = difference(of, minus, self.of.reduce, self.minus.reduce).plus(self.within)
        return least([above, below])


@_typed
class Range(_OfCells):
    """Any two of the cells differ by less than `within`."""

    form: Literal["range"]
    within: float

    def measure(self, found: Sequence[Values]) -> Measurement:
        (values,) = found
        if len(values.own_CS) < 2:
            raise NotMeasurable("the study as it was run has one such cell, a spread needs two")
        pairs = permutations(values.own_CS, 2)
        return least([single(self.within - (first_S - second_S)) for first_S, second_S in pairs])


@_typed
class Below(_OfCells):
    """Each of the cells is below `bound`, in the units of the metric."""

    form: Literal["below"]
    bound: float

    def measure(self, found: Sequence[Values]) -> Measurement:
        (values,) = found
        return least([single(self.bound - own_S) for own_S in values.own_CS])


@_typed
class Monotone(_OfCells):
    """The mean of the cells goes up (down) with every step along an axis; a step back up to `tolerance` is let go."""

    form: Literal["monotone"]
    along: str
    direction: Literal["increasing", "decreasing"] = "increasing"
    cells: Selection = field(default_factory=dict)
    tolerance: float = 0.0

    def measure(self, found: Sequence[Values]) -> Measurement:
        (values,) = found
        sign = 1 if self.direction == "increasing" else -1
        steps = pairwise(_curve(values, self.along).values())
        return least([single(sign * (later_S - earlier_S)) for earlier_S, later_S in steps]).plus(self.tolerance)


@_typed
class GapShrinks(_OfTwo):
    """`of` is above `minus` at the first value of an axis, and every step along it brings them closer.

    A step that widens the gap by up to `tolerance` is let go; a gap of the other sign counts by its size.
    """

    form: Literal["gap_shrinks"]
    along: str
    tolerance: float = 0.0

    def measure(self, found: Sequence[Values]) -> Measurement:
        of, minus = (_curve(values, self.along) for values in found)
        if list(of) != list(minus):
            raise NotMeasurable(f"both sides need cells at the same values of {self.along}")
        gaps = [of_S - minus_S for of_S, minus_S in zip(of.values(), minus.values(), strict=True)]
        sizes = [np.stack([gap_S, -gap_S]) for gap_S in gaps]
        steps = [difference(earlier, later, "max", "max") for earlier, later in pairwise(sizes)]
        return least([single(gaps[0]), least(steps).plus(self.tolerance)])


@_typed
class Correlation(_Check):
    """Spearman's correlation with the paper's numbers, over the cells of one seed, is above a threshold."""

    form: Literal["correlation"]
    above: float
    cells: Selection = field(default_factory=dict)

    def selections(self) -> list[Needed]:
        return [Needed(self.cells, printed=True)]

    def measure(self, found: Sequence[Values]) -> Measurement:
        (values,) = found
        if len(values.points) < FEWEST_CELLS:
            raise NotMeasurable(f"fewer than {FEWEST_CELLS} of these cells have a number of the paper's")
        correlation_S = np.array([spearman(own, values.paper_C) for own in values.own_CS.T])
        if np.isnan(correlation_S).any():
            raise NotMeasurable("the numbers are all the same: no correlation is defined")
        return single(correlation_S - self.above)


@_typed
class All(_Check):
    """Several checks that must all hold; as written, and parsed by claimfile.py."""

    form: Literal["all"]
    checks: list[Any]


FORMS: dict[str, type] = {
    "difference": Difference,
    "largest": Largest,
    "smallest": Smallest,
    "above_published": AbovePublished,
    "monotone": Monotone,
    "gap_shrinks": GapShrinks,
    "correlation": Correlation,
    "equal": Equal,
    "range": Range,
    "below": Below,
    "all": All,
}


def _curve(values: Values, along: str) -> dict[str, np.ndarray]:
    """The mean of the cells (of shape S) at each value of an axis that they have, in the order of the axis."""
    curve = {}
    for value in values.axes[along]:
        rows = [row for row, point in enumerate(values.points) if point[along] == value]
        if rows:
            curve[plain(value)] = values.own_CS[rows].mean(axis=0)
    return curve
