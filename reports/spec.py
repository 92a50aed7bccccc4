"""The `report` section of a study: which figure is drawn, and where each axis goes.

Read by the planner, which refuses what cannot be drawn, and by the report. The axes of a report are those
of the study, less the ones that it tunes or averages away, and those that tell its metrics apart.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from core.errors import InvalidValue, UserError
from reports.selections import as_list
from reports.written import one_of, typed_by

_typed = dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))

METRIC = "metric"
"""The axis that tells metrics apart where the report gives them no axes of their own."""
Keys = str | list[str]


@_typed
class Best:
    """Axes that are tuned: of the cells along them the one with the largest value of the metric `by` is shown."""

    axis: Keys
    by: str


@_typed
class Spec:
    """What every kind has: axes tuned (`best`) or averaged (`mean_over`) away before anything is shown."""

    PLACES: ClassVar[tuple[str, ...]] = ()
    best: Best | None = None
    mean_over: Keys = ""

    def places(self) -> dict[str, list[str]]:
        """Key of the report to the axes that stand there."""
        return {place: keys(getattr(self, place)) for place in self.PLACES}

    def layout(self, axes: Iterable[str], metric: str) -> dict[str, list[str]]:
        """Place of the figure to those of its axes that there are; `metric` is the study's."""
        axes = list(axes)
        return {place: [key for key in placed if key in axes] for place, placed in self.places().items()}

    def tuned(self) -> list[str]:
        return keys(self.best.axis) if self.best else []

    def away(self) -> list[str]:
        """The axes of the study that are not shown."""
        return [*self.tuned(), *keys(self.mean_over)]

    def metric_axes(self, metric: str) -> dict[str, dict[str, str]]:
        """Metric to its values on the axes that tell metrics apart; `metric` is the study's."""
        return {metric: {METRIC: metric}}

    def comparable(self, metric: str) -> dict[str, dict[str, str]]:
        """The same for the metrics that are one quantity under several conditions, which the axes name."""
        return {metric: {}}


@_typed
class _OfMetrics(Spec):
    """Kinds that can show several metrics.

    metrics: a list, told apart by the axis `metric`; or {metric: {axis of its own: value}}; or the study's metric.
    """

    metrics: list[str] | dict[str, dict[str, str]] = field(default_factory=list)

    def metric_axes(self, metric: str) -> dict[str, dict[str, str]]:
        if isinstance(self.metrics, dict) and self.metrics:
            return self.metrics
        return {name: {METRIC: name} for name in self.metrics or [metric]}

    def comparable(self, metric: str) -> dict[str, dict[str, str]]:
        return self.metrics if isinstance(self.metrics, dict) and self.metrics else {metric: {}}


@_typed
class _InPanels(_OfMetrics):
    """Kinds whose figure can have a part for each value of an axis, or of several."""

    panels: Keys = ""


@_typed
class Heatmap(Spec):
    """Two axes as a grid of coloured cells."""

    PLACES: ClassVar[tuple[str, ...]] = ("rows", "columns")
    kind: Literal["heatmap"]
    rows: str
    columns: str
    average: bool = False


@_typed
class Table(_OfMetrics):
    """A printed table. Rows or columns left out take all other axes: a line per cell, a column per metric.

    bold: axes along which all that is not significantly worse than the best is printed bold (permutation.py).
    """

    PLACES: ClassVar[tuple[str, ...]] = ("rows", "columns")
    kind: Literal["table"] = "table"
    rows: Keys = ""
    columns: Keys = ""
    bold: Keys = ""

    def layout(self, axes: Iterable[str], metric: str) -> dict[str, list[str]]:
        placed = super().layout(axes, metric)
        free = [key for key in axes if key not in [*placed["rows"], *placed["columns"]]]
        if self.rows and self.columns:
            return placed
        if self.rows:
            return {**placed, "columns": free}
        if self.columns:
            return {**placed, "rows": free}
        of_metrics = {key for values in self.metric_axes(metric).values() for key in values}
        rows = [key for key in free if key not in of_metrics]
        return {"rows": rows, "columns": [key for key in free if key in of_metrics]}


@_typed
class _Plotted(_InPanels):
    """The metric against the values of `x`, told apart by those of `hue`."""

    PLACES: ClassVar[tuple[str, ...]] = ("x", "hue", "panels")
    x: str
    hue: str = ""


@_typed
class Bars(_Plotted):
    """Bars in groups: a group per value of `x`, a colour per value of `hue`."""

    kind: Literal["bars"]


@_typed
class Lines(_Plotted):
    """A line per value of `hue`."""

    kind: Literal["lines"]


@_typed
class Scatter(Spec):
    """The study's metric against the metric `x`; a colour per value of `hue`, `names` are written beside the points."""

    PLACES: ClassVar[tuple[str, ...]] = ("hue", "names")
    kind: Literal["scatter"]
    x: str
    hue: str = ""
    names: Keys = ""

    def metric_axes(self, metric: str) -> dict[str, dict[str, str]]:
        return {name: {METRIC: name} for name in (metric, self.x)}


@_typed
class Panel(_OfMetrics):
    """A figure of its own, drawn from the `data` of an evaluation (panels.py); the table shows the metrics."""

    kind: Literal["panel"]
    figure: Literal["histograms", "loss_gradients"]
    """The kind of evaluation that it draws."""
    evaluation: str


KINDS: dict[str, type] = {
    "heatmap": Heatmap,
    "table": Table,
    "bars": Bars,
    "lines": Lines,
    "scatter": Scatter,
    "panel": Panel,
}


def keys(value: Keys) -> list[str]:
    """One axis, several, or none ("")."""
    return as_list(value) if value else []


def parse_report(tree: Any) -> Any:
    """The `report` of a study as written in YAML, typed: one of `KINDS`. Raises: UserError."""
    return typed_by("kind", KINDS, tree, "report") if tree else Table()


def check_report(tree: Any, axes: Mapping[str, Sequence[Any]], metric: str, metrics: Collection[str]) -> None:
    """Validate the `report` of a study with these axes, metric and measured metrics. Raises: UserError."""
    spec = parse_report(tree)
    _check_metrics(spec, metric, metrics)
    for key in spec.away():
        one_of("axis in report", key, axes)
    shown = {key: len(values) for key, values in axes.items() if key not in spec.away()}
    for of_metric in spec.metric_axes(metric).values():
        for key in of_metric:
            if key in axes:
                raise InvalidValue("report.metrics", key, "an axis of the metrics has a name of its own")
            shown[key] = len({value.get(key) for value in spec.metric_axes(metric).values()})
    _check_places(spec, shown)


def _check_metrics(spec: Any, metric: str, metrics: Collection[str]) -> None:
    named = [*spec.metric_axes(metric), *([spec.best.by] if spec.best else [])]
    for name in named:
        one_of("metric in report", name, metrics)
    if spec.best:
        by = [name for name in metrics if name == "train.accuracy" or ".validation_" in name]
        if spec.best.by not in by:
            allowed = f"one of {', '.join(by)}: test pictures are not for choosing"
            raise InvalidValue("report.best.by", spec.best.by, allowed)
    if isinstance(spec, Panel):
        if spec.away():
            raise UserError("report.kind=panel draws one cell: neither best nor mean_over")
        one_of("report.evaluation", spec.evaluation, {name.partition(".")[0] for name in metrics} - {"train"})
    axes = [set(of_metric) for of_metric in spec.metric_axes(metric).values()]
    if any(of_metric != axes[0] or not of_metric for of_metric in axes):
        raise UserError("report.metrics: every metric needs a value on the same axes")


def _check_places(spec: Any, shown: Mapping[str, int]) -> None:
    """Raises: UserError unless every axis with several values stands at one place of the figure."""
    placed: dict[str, str] = {}
    for place, its_axes in spec.places().items():
        for key in its_axes:
            one_of(f"axis in report.{place}", key, shown)
            if key in placed:
                raise InvalidValue(f"report.{place}", key, f"stands already at report.{placed[key]}")
            placed[key] = place
    for key in keys(spec.bold) if isinstance(spec, Table) else []:
        one_of("axis in report.bold", key, shown)
    if isinstance(spec, Table) and not (spec.rows and spec.columns):
        return
    of_metrics = {key for values in spec.metric_axes("").values() for key in values}
    for key, values in shown.items():
        if isinstance(spec, Panel):
            if values > 1 and key not in of_metrics:
                raise UserError(f"report.kind=panel draws one cell; the axis {key} has {values} values: keep one")
        elif values > 1 and key not in placed and not (isinstance(spec, Scatter) and key == METRIC):
            places = ", ".join((*spec.PLACES, "best.axis", "mean_over"))
            raise UserError(f"report.kind={spec.kind} does not show the axis {key}: name it in one of {places}")
