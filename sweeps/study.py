"""The study file and the scale file, typed; a mistake in either becomes one line for the user."""

from itertools import product
from typing import Annotated, Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from core.config import EVALUATIONS, METRICS
from core.errors import InvalidValue, UserError, unknown_name
from reports.claimfile import check_claims
from reports.reduction import axes_of_places, groups, places
from reports.spec import check_report, parse_report

_typed = dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))


def _help(text: str, **limits: Any) -> Any:
    return Field(description=text, **limits)


@_typed
class PaperAxis:
    """How an axis's values are called in a table of the paper."""

    key: Annotated[str, _help("axis key")]
    names: Annotated[dict[str, str], _help("the study's value to the paper's name")]


@_typed
class PaperTable:
    """Where the paper's numbers for the study's cells stand in ablations/paper/simclr.yaml."""

    source: Annotated[str, _help("block of the file: rows of numbers under `cols`")]
    where: Annotated[str, _help("figure or table, and section, of the paper")]
    rows: PaperAxis
    columns: PaperAxis


@_typed
class Reference:
    """A run beside the grid, shown as a line."""

    label: Annotated[str, _help("how the report calls it")]
    set: Annotated[dict[str, Any], _help("dotted keys that differ from the study's base")]


@_typed
class Study:
    """One table or figure: which runs should exist, and what they are to show."""

    name: Annotated[str, _help("name of the study, as its file", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    title: Annotated[str, _help("title of the report")]
    summary: Annotated[str, _help("one line for the list of studies")]
    axes: Annotated[dict[str, list[Any]], _help("dotted key to its values; the grid is their product")] = Field(
        default_factory=dict
    )
    base: Annotated[dict[str, Any], _help("dotted keys common to all cells, in the paper's values")] = Field(
        default_factory=dict
    )
    evaluations: Annotated[list[str], _help("what is measured on each run")] = Field(default_factory=lambda: ["linear"])
    metric: Annotated[str, _help("what the report shows: <evaluation>.<name>")] = "linear.top1"
    references: Annotated[dict[str, Reference], _help("runs beside the grid")] = Field(default_factory=dict)
    labels: Annotated[dict[str, str], _help("how axis keys and values are called in the report")] = Field(
        default_factory=dict
    )
    report: Annotated[dict[str, Any], _help("which figure is drawn; see reports/spec.py")] = Field(default_factory=dict)
    claims: Annotated[list[dict[str, Any]], _help("sentences of the paper with their checks")] = Field(
        default_factory=list
    )
    paper: Annotated[PaperTable | None, _help("the paper's numbers; absent for a study of one's own")] = None


@_typed
class ValueMap:
    """How a scale turns the paper's value of one key into its own."""

    factor: Annotated[float, _help("own = paper * factor, at least 1", gt=0)]


@_typed
class Scale:
    """How big the experiment is."""

    name: str
    summary: Annotated[str, _help("one line")]
    is_paper: Annotated[bool, _help("whether this is the paper's own setting")]
    base: Annotated[dict[str, Any], _help("dotted keys that this scale sets")]
    map: Annotated[dict[str, ValueMap], _help("keys whose paper value is mapped")]


def check_study(study: Study) -> None:
    """Raises: UserError for what the types alone cannot see."""
    where = f"study {study.name}"
    for kind in study.evaluations:
        if kind not in EVALUATIONS:
            raise unknown_name(f"evaluation of {where}", kind, EVALUATIONS)
    allowed = [f"{kind}.{name}" for kind in [*study.evaluations, "train"] for name in METRICS[kind]]
    if study.metric not in allowed:
        raise InvalidValue("metric", study.metric, f"{where}: one of {', '.join(allowed)}")
    for key, values in study.axes.items():
        if not values:
            raise UserError(f"{where}: axis {key} has no values")
        if len({repr(value) for value in values}) < len(values):
            raise InvalidValue(key, values, f"{where}: each value of an axis once")
    check_report(study.report, study.axes, study.metric, allowed)
    spec = parse_report(study.report)
    cells = [dict(zip(study.axes, values, strict=True)) for values in product(*study.axes.values())]
    found = places([group.values for group in groups(cells, spec)], spec, study.metric)
    points = [place.values for place in found]
    check_claims(study.claims, points, axes_of_places(study.axes, spec, study.metric), allowed)
