"""The paper's numbers for a study's cells: looked up in ablations/paper/simclr.yaml as the study file says.

A lookup is a path of steps into one block of that file, so that each of the paper's numbers is written once.
Invariant: for the cells that a lookup is for, every step exists; a mistake is one line that says what is there.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from core.config import DatasetName
from core.errors import InvalidValue, UserError, unknown_name
from core.typed import help_text, typed
from reports.manifest import plain
from reports.selections import as_list, select, validate_selection
from reports.spec import Spec
from reports.written import one_of
from reports.written import typed as typed_part

FILE = Path(__file__).resolve().parent.parent / "ablations" / "paper" / "simclr.yaml"

Point = Mapping[str, Any]
"""A cell's values by axis key, and those of a metric's own axes."""


@typed
class Step:
    """One step of a path: a key of a mapping, or with `position_in` a position in a list."""

    axis: str | list[str] = ""
    name: Any = None
    names: dict[Any, Any] = Field(default_factory=dict)
    position_in: str = ""

    def take(self, node: Any, block: Mapping[str, Any], point: Point, where: str) -> Any:
        name = self.name_at(point, where)
        if not self.position_in:
            return _child(node, name, where)
        names = _child(block, self.position_in, f"{where}.position_in")
        if name not in names:
            raise unknown_name(where, plain(name), map(plain, names))
        return _child(node, names.index(name), where)

    def name_at(self, point: Point, where: str) -> Any:
        """What the paper calls the cell's value."""
        if not self.axis:
            return self.name
        value = [point[key] for key in as_list(self.axis)]
        text = ", ".join(map(plain, value))
        if not self.names and len(value) == 1:
            return value[0]
        names = {plain(known): name for known, name in self.names.items()}
        if text not in names:
            raise unknown_name(f"value in {where}.names", text, names)
        return names[text]


@typed
class Row:
    """A step to the number in one `column` of the one row of `rows` with these values in other columns."""

    row: dict[str, Any]
    column: str

    def take(self, node: Any, block: Mapping[str, Any], point: Point, where: str) -> Any:
        columns = _child(block, "cols", where)
        rows = _child(node, "rows", where)
        for column, wanted in self.row.items():
            place = _position(columns, column, f"{where}.row")
            is_step = isinstance(wanted, Mapping)
            name = _parse_step(wanted, where).name_at(point, f"{where}.row.{column}") if is_step else wanted
            there = [row[place] for row in rows]
            rows = [row for row in rows if row[place] == name]
            if not rows:
                raise unknown_name(f"{where}.row.{column}", plain(name), dict.fromkeys(map(plain, there)))
        if len(rows) > 1:
            raise InvalidValue(f"{where}.row", plain(self.row), f"columns that tell {len(rows)} rows apart")
        return rows[0][_position(columns, self.column, f"{where}.column")]


@typed
class Lookup:
    """Where the numbers of some cells stand."""

    path: list[Any]
    metric: str = ""
    when: dict[str, Any] = Field(default_factory=dict)
    block: str = ""


@typed
class Others:
    """Rows of a block that are shown beside the study's, such as other methods' published numbers."""

    metrics: dict[str, str]
    label: str = "{method}, {architecture}"
    leave_out: dict[str, Any] = Field(default_factory=dict)
    block: str = ""


@typed
class PaperNumbers:
    """Which numbers of the paper belong to a study."""

    where: str = help_text("figure or table, and section, of the paper")
    source: str = help_text("block of ablations/paper/simclr.yaml, if it prints numbers or formulas", default="")
    data: DatasetName = help_text("data group with the pictures it was measured on", default="image_folder")
    numbers: list[Lookup] = help_text("lookups of the cells' numbers", default_factory=list)
    others: list[Others] = help_text("published rows shown beside the study's", default_factory=list)


@cache
def load_paper() -> dict[str, Any]:
    """The paper's numbers, with their sources."""
    return yaml.load(FILE.read_text(), Loader=yaml.CSafeLoader)


def check_paper(paper: PaperNumbers, axes: Mapping[str, Sequence[Any]], metrics: Iterable[str]) -> None:
    """Refuse blocks, axes and metrics that are not there; `axes` include those of the metrics. Raises: UserError."""
    if paper.source:
        _block(paper.source, "paper.source")
    elif not all(lookup.block for lookup in paper.numbers) or not all(group.block for group in paper.others):
        raise UserError("paper.source: missing")
    for number, lookup in enumerate(paper.numbers):
        where = f"paper.numbers.{number}"
        validate_selection(lookup.when, axes, f"{where}.when")
        if lookup.metric:
            one_of(f"{where}.metric", lookup.metric, metrics)
        for place, tree in enumerate(lookup.path):
            for key in _axes_of(_parse_step(tree, f"{where}.path.{place}")):
                one_of(f"axis in {where}.path.{place}", key, axes)
    for number, group in enumerate(paper.others):
        for metric in group.metrics:
            one_of(f"paper.others.{number}.metrics", metric, metrics)
    others(paper)


def numbers(paper: PaperNumbers, cell: Point, spec: Spec, metric: str) -> dict[str, float]:
    """The paper's number of a cell by metric; `metric` is the study's. Raises: UserError for what is not there."""
    found: dict[str, float] = {}
    own_axes = spec.comparable(metric)
    for number, lookup in enumerate(paper.numbers):
        where = f"paper.numbers.{number}"
        block = _block(lookup.block or paper.source, f"{where}.block")
        for name in [lookup.metric] if lookup.metric else own_axes:
            point = {**cell, **own_axes.get(name, {})}
            if not select([point], lookup.when):
                continue
            value = _find(block, lookup.path, point, where)
            if value is not None:
                if name in found:
                    raise InvalidValue(where, plain(point), f"cells that have no number of {name} yet; see `when`")
                found[name] = value
    return found


def others(paper: PaperNumbers) -> list[dict[str, Any]]:
    """The published rows: {"label", "metrics"} each."""
    rows = []
    for number, group in enumerate(paper.others):
        where = f"paper.others.{number}"
        block = _block(group.block or paper.source, f"{where}.block")
        columns = _child(block, "cols", where)
        for row in _child(block, "rows", where):
            named = dict(zip(columns, row, strict=True))
            kept = all(
                named[_known(column, columns, f"{where}.leave_out")] not in as_list(left_out)
                for column, left_out in group.leave_out.items()
            )
            taken = {metric: named[_known(column, columns, where)] for metric, column in group.metrics.items()}
            if kept:
                metrics = {metric: float(value) for metric, value in taken.items() if value is not None}
                rows.append({"label": _label(group.label, named, f"{where}.label"), "metrics": metrics})
    return rows


def _find(block: Mapping[str, Any], path: Sequence[Any], point: Point, where: str) -> float | None:
    node: Any = block
    for number, tree in enumerate(path):
        place = f"{where}.path.{number}"
        step = _parse_step(tree, place)
        node = step.take(node, block, point, place)
    if node is None:
        return None
    if isinstance(node, bool) or not isinstance(node, int | float):
        raise InvalidValue(f"{where}.path", plain(path), f"a path to a number; here it ends at {plain(node)[:60]}")
    return float(node)


def _parse_step(tree: Any, where: str) -> Any:
    if not isinstance(tree, Mapping):
        return Step(name=tree)
    return typed_part(Row if "row" in tree else Step, tree, where)


def _axes_of(step: Any) -> list[str]:
    if isinstance(step, Step):
        return as_list(step.axis) if step.axis else []
    inner = [_parse_step(wanted, "") for wanted in step.row.values() if isinstance(wanted, Mapping)]
    return [key for one in inner for key in _axes_of(one)]


def _child(node: Any, name: Any, where: str) -> Any:
    if isinstance(node, list):
        if not isinstance(name, int) or not 0 <= name < len(node):
            raise InvalidValue(where, plain(name), f"a list of {len(node)} stands here: a position from 0")
        return node[name]
    if not isinstance(node, Mapping):
        raise InvalidValue(where, plain(name), f"the path ends one step before, at {plain(node)}")
    if name not in node:
        raise unknown_name(where, plain(name), map(plain, node))
    return node[name]


def _position(columns: Sequence[str], column: str, where: str) -> int:
    return columns.index(_known(column, columns, where))


def _known(column: str, columns: Sequence[str], where: str) -> str:
    one_of(f"column in {where}", column, columns)
    return column


def _block(name: str, where: str) -> dict[str, Any]:
    one_of(where, name, load_paper())
    return load_paper()[name]


def _label(label: str, named: Mapping[str, Any], where: str) -> str:
    """The label with {column} replaced; no other formatting, since the text is the user's."""
    for column, value in named.items():
        label = label.replace("{" + column + "}", plain(value))
    if "{" in label:
        raise UserError(f"{where}={label}: allowed in braces: {', '.join(named)}")
    return label
