"""Selections: which cells of a study a claim speaks of, by axis value.

{axis key: value, list of values or "*"}; an axis that is not named is not restricted. `diagonal: true|false` is
for studies with two axes of the same values (true: both equal), `not: selection` (or several) leaves cells out.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from core.errors import InvalidValue, unknown_name
from reports.manifest import plain

Selection = dict[str, Any]

DIAGONAL = "diagonal"
NOT = "not"


def select(points: Sequence[Mapping[str, Any]], selection: Selection) -> list[int]:
    """The numbers of the points, {axis key: value} each, that a selection names."""
    return [number for number, point in enumerate(points) if _matches(point, selection)]


def _matches(point: Mapping[str, Any], selection: Selection) -> bool:
    for key, wanted in selection.items():
        if key == DIAGONAL:
            matches = (len({plain(value) for value in point.values()}) < len(point)) == wanted
        elif key == NOT:
            matches = not any(_matches(point, left_out) for left_out in as_list(wanted))
        else:
            matches = wanted == "*" or point[key] in _values(wanted)
        if not matches:
            return False
    return True


def validate_selection(selection: Selection, axes: Mapping[str, Sequence[Any]], where: str) -> None:
    """Raises: UserError if a selection names an axis or a value that the study does not have."""
    for key, wanted in selection.items():
        if key == NOT:
            for left_out in as_list(wanted):
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
            for value in [] if wanted in axes[key] else as_list(wanted):
                if value != "*" and value not in axes[key]:
                    raise unknown_name(f"{where}.{key}", plain(value), [plain(known) for known in axes[key]])


def _pairs_of_like_axes(axes: Mapping[str, Sequence[Any]]) -> int:
    values = [{plain(value) for value in axis} for axis in axes.values()]
    return sum(bool(values[i] & values[j]) for i in range(len(values)) for j in range(i))


def _values(wanted: Any) -> list[Any]:
    """The values that a selection allows on an axis; a value may itself be a list, such as transformations."""
    return [*wanted, wanted] if isinstance(wanted, list) else [wanted]


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
