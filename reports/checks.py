"""The forms that a claim's check can have: each turns a study's cells into one number per seed.

The number is above zero where the claim holds. A form says which cells it needs and what it makes of
them; tests, corrections and verdicts are claims.py's, the same for all forms. To add a form: a class with
`selections` and `measure`, and its line in `FORMS`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as typed_dataclass

from core.errors import InvalidValue, UserError, unknown_name
from reports.manifest import plain

Reduction = Literal["max", "mean", "min"]
Selection = dict[str, Any]
"""Cells by axis value: {axis key: value, list of values or "*"}, and `diagonal: true|false` for studies
with two axes of the same values (true: both equal); `not: selection` (or several) leaves
cells out. What is not named is not restricted."""

DIAGONAL = "diagonal"
NOT = "not"


@dataclass(frozen=True)
class Measurement:
    """A claim as numbers: it holds where the true value is above zero.

    estimate: from the means over seeds. low_S (one per seed) is in expectation never above the true
    value, high_S never below: where a form picks the best of noisy cells, the choice flatters no side.
    """

    estimate: float
    low_S: np.ndarray
    high_S: np.ndarray


class Check(Protocol):
    """A check of a claim, parsed."""

    def selections(self) -> list[Selection]:
        """All selections of cells that the check needs."""

    def measure(self, cells: Sequence[np.ndarray]) -> Measurement:
        """The claim as numbers; `cells[i]` (cells x seeds) are those of `selections()[i]`."""


_typed = typed_dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))


@_typed
class Side:
    """Some cells and how they become one number."""

    cells: Selection
    reduce: Reduction = "mean"


@_typed
class Difference:
    """`of` is above `minus` by more than `margin`, in the units of the metric."""

    form: Literal["difference"]
    of: Side
    minus: Side
    margin: float = 0.0

    def selections(self) -> list[Selection]:
        return [self.of.cells, self.minus.cells]

    def measure(self, cells: Sequence[np.ndarray]) -> Measurement:
        of, minus = cells
        difference = _difference(of, minus, self.of.reduce, self.minus.reduce)
        return Measurement(
            difference.estimate - self.margin, difference.low_S - self.margin, difference.high_S - self.margin
        )


@_typed
class Largest:
    """The largest cell of `among` is one of `cells`."""

    form: Literal["largest"]
    cells: Selection
    among: Selection

    def selections(self) -> list[Selection]:
        others = {**self.among, NOT: [*_as_list(self.among.get(NOT, [])), self.cells]}
        return [self.cells, others]

    def measure(self, cells: Sequence[np.ndarray]) -> Measurement:
        own, others = cells
        return _difference(own, others, "max", "max")


FORMS: dict[str, type] = {"difference": Difference, "largest": Largest}


def select(points: Sequence[Mapping[str, Any]], selection: Selection) -> list[int]:
    """The numbers of the points, {axis key: value} each, that a selection names."""
    return [number for number, point in enumerate(points) if _matches(point, selection)]


def _matches(point: Mapping[str, Any], selection: Selection) -> bool:
    for key, wanted in selection.items():
        if key == DIAGONAL:
            matches = (len({plain(value) for value in point.values()}) < len(point)) == wanted
        elif key == NOT:
            matches = not any(_matches(point, left_out) for left_out in _as_list(wanted))
        else:
            matches = wanted == "*" or point[key] in _as_list(wanted)
        if not matches:
            return False
    return True


def parse_check(tree: Any, where: str) -> Check:
    """A check as written in YAML, typed. Raises: UserError naming the key and what is allowed."""
    if not isinstance(tree, Mapping) or not isinstance(tree.get("form"), str):
        raise InvalidValue(where, tree, "a mapping with form: " + ", ".join(FORMS))
    form = tree["form"]
    if form not in FORMS:
        raise unknown_name(f"{where}.form", form, FORMS)
    try:
        return TypeAdapter(FORMS[form]).validate_python(dict(tree))
    except ValidationError as error:
        raise explain(error, where) from None


def explain(error: ValidationError, where: str) -> UserError:
    """The one line for a user whose YAML does not have the form asked for."""
    first = error.errors()[0]
    key = ".".join([where, *map(str, first["loc"])])
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return UserError(f"unknown key '{key}'")
    if first["type"] in ("missing", "missing_argument"):
        return UserError(f"{key}: missing")
    return InvalidValue(key, first["input"], first["msg"][0].lower() + first["msg"][1:])


def validate_selection(selection: Selection, axes: Mapping[str, Sequence[Any]], where: str) -> None:
    """Raises: UserError if a selection names an axis or a value that the study does not have."""
    for key, wanted in selection.items():
        if key == NOT:
            for left_out in _as_list(wanted):
                if not isinstance(left_out, dict):
                    raise InvalidValue(f"{where}.{NOT}", left_out, "a selection of cells to leave out")
                validate_selection(left_out, axes, where)
        elif key == DIAGONAL:
            if not isinstance(wanted, bool):
                raise InvalidValue(f"{where}.{DIAGONAL}", wanted, "true or false")
            if _pairs_of_like_axes(axes) != 1:
                raise InvalidValue(f"{where}.{DIAGONAL}", wanted, "needs two axes with values in common")
        elif key not in axes:
            raise unknown_name(f"axis in {where}", key, [*axes, DIAGONAL])
        else:
            for value in _as_list(wanted):
                if value != "*" and value not in axes[key]:
                    raise unknown_name(f"{where}.{key}", plain(value), [plain(known) for known in axes[key]])


def _pairs_of_like_axes(axes: Mapping[str, Sequence[Any]]) -> int:
    values = [{plain(value) for value in axis} for axis in axes.values()]
    return sum(bool(values[i] & values[j]) for i in range(len(values)) for j in range(i))


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _difference(of_CS: np.ndarray, minus_CS: np.ndarray, of: Reduction, minus: Reduction) -> Measurement:
    estimate = _reduce(of_CS.mean(axis=1), of) - _reduce(minus_CS.mean(axis=1), minus)
    return Measurement(
        estimate=float(estimate),
        low_S=_never_above(of_CS, of) - _never_below(minus_CS, minus),
        high_S=_never_below(of_CS, of) - _never_above(minus_CS, minus),
    )


def _reduce(values: np.ndarray, how: Reduction) -> np.ndarray:
    return getattr(np, how)(values, axis=0)


def _never_above(values_CS: np.ndarray, how: Reduction) -> np.ndarray:
    """Per seed, a reduction whose expectation is not above that of the true cell means."""
    return _chosen_on_other_seeds(values_CS, np.argmax) if how == "max" else _reduce(values_CS, how)


def _never_below(values_CS: np.ndarray, how: Reduction) -> np.ndarray:
    return _chosen_on_other_seeds(values_CS, np.argmin) if how == "min" else _reduce(values_CS, how)


def _chosen_on_other_seeds(values_CS: np.ndarray, choose: Callable[..., Any]) -> np.ndarray:
    """Per seed, the value of the cell that is extreme on average over the other seeds.

    The largest of many noisy cells is large partly by luck; luck does not carry over to another seed.
    """
    n_seeds = values_CS.shape[1]
    if n_seeds == 1:
        return values_CS[choose(values_CS[:, 0])]
    others_CS = values_CS.sum(axis=1, keepdims=True) - values_CS
    return values_CS[choose(others_CS, axis=0), np.arange(n_seeds)]
