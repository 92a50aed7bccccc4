"""The study file and the scale file, typed; a mistake in either becomes one line for the user."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Annotated, Any

from pydantic import Field

from core.config import EVALUATIONS, METRICS, RunConfig, evaluation_config, known_keys
from core.errors import InvalidValue, UserError, unknown_name
from core.typed import help_text, typed
from reports.claimfile import check_claims, metrics_of, parse_claims
from reports.manifest import plain
from reports.reduction import axes_of_places, groups, places
from reports.selections import select, validate_selection
from reports.spec import Panel, Table, check_report, parse_report
from sweeps.evaluations import evaluation_keys
from sweeps.keys import PREFIX, assign
from sweeps.paper import PaperNumbers, check_paper, numbers, others


@typed
class Reference:
    """A run beside the grid, shown as a line."""

    label: Annotated[str, help_text("how the report calls it")]
    set: Annotated[dict[str, Any], help_text("dotted keys that differ from the study's base")]


@typed
class AtScale:
    """What of a study a scale leaves out, because it would not fit the time that the scale is for."""

    narrow: Annotated[dict[str, list[Any]], help_text("axis to those of its values that are kept")]


@typed
class Study:
    """One table or figure: which runs should exist, and what they are to show."""

    name: Annotated[str, help_text("name of the study, as its file", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
    title: Annotated[str, help_text("title of the report")]
    summary: Annotated[str, help_text("one line for the list of studies")]
    axes: Annotated[
        dict[str, list[Any] | dict[Any, dict[str, Any]]],
        help_text("dotted key to its values; or a name to values with the dotted keys that each sets"),
    ] = Field(default_factory=dict)
    exclude: Annotated[list[dict[str, Any]], help_text("selections of cells that do not exist")] = Field(
        default_factory=list
    )
    base: Annotated[dict[str, Any], help_text("dotted keys common to all cells, in the paper's values")] = Field(
        default_factory=dict
    )
    evaluations: Annotated[
        list[str] | dict[str, dict[str, Any]], help_text("what is measured on each run: kinds, or names with settings")
    ] = Field(default_factory=lambda: ["linear"])
    metric: Annotated[str, help_text("what the report shows: <evaluation>.<name>")] = "linear.top1"
    references: Annotated[dict[str, Reference], help_text("runs beside the grid")] = Field(default_factory=dict)
    labels: Annotated[dict[str, str], help_text("how axis keys and values are called in the report")] = Field(
        default_factory=dict
    )
    report: Annotated[dict[str, Any], help_text("which figure is drawn; see reports/spec.py")] = Field(
        default_factory=dict
    )
    claims: Annotated[list[dict[str, Any]], help_text("sentences of the paper with their checks")] = Field(
        default_factory=list
    )
    paper: Annotated[PaperNumbers | None, help_text("the paper's numbers; absent for a study of one's own")] = None
    scales: Annotated[dict[str, AtScale], help_text("scale to what it leaves out")] = Field(default_factory=dict)

    @property
    def values(self) -> dict[str, list[Any]]:
        """The values of every axis."""
        return {key: list(values) for key, values in self.axes.items()}

    def narrowed(self, scale: str) -> dict[str, list[Any]]:
        """The axes that a scale narrows, with the values that it keeps, in the order of the study."""
        kept = self.scales[scale].narrow if scale in self.scales else {}
        return {key: [value for value in self.values[key] if value in values] for key, values in kept.items()}

    def sets(self, axis: str, value: Any) -> dict[str, Any]:
        """The dotted keys that a value of an axis sets."""
        values = self.axes[axis]
        return values[value] if isinstance(values, dict) else {axis: value}

    @property
    def asked(self) -> dict[str, dict[str, Any]]:
        """Name of each evaluation to its kind and its own settings."""
        if isinstance(self.evaluations, dict):
            return {name: {"kind": name, **settings} for name, settings in self.evaluations.items()}
        return {kind: {"kind": kind} for kind in self.evaluations}

    def measuring(self, kinds: Sequence[str]) -> "Study":
        """The same study with evaluations of further kinds, in their default settings."""
        return replace(self, evaluations={**self.asked, **{kind: {} for kind in kinds if kind not in self.asked}})

    @property
    def kinds(self) -> dict[str, str]:
        """Name of each evaluation to its kind."""
        return {name: settings["kind"] for name, settings in self.asked.items()}

    @property
    def named_metrics(self) -> dict[str, str]:
        """Those that the report and the claims need, with the key that names them."""
        spec = parse_report(self.report)
        claims = enumerate(parse_claims(self.claims))
        found = {name: f"claims.{number}.check" for number, claim in claims for name in metrics_of(claim.check)}
        found |= dict.fromkeys(spec.metric_axes(self.metric), "report.metrics")
        if spec.best:
            found[spec.best.by] = "report.best.by"
        return {**found, self.metric: "metric"}

    @property
    def metrics(self) -> list[str]:
        """Everything that can be shown of a cell."""
        found = [f"{name}.{metric}" for name, kind in self.kinds.items() for metric in METRICS[kind]]
        return [*found, *(f"train.{metric}" for metric in dict.fromkeys([*METRICS["train"], "parameters"]))]

    def cells(self, values: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
        """The product of these values of the axes, less what is excluded: {axis: value} each."""
        for chosen in product(*values.values()):
            cell = dict(zip(values, chosen, strict=True))
            if not any(select([cell], left_out) for left_out in self.exclude):
                yield cell

    def paper_numbers(self) -> dict[tuple[str, ...], dict[str, float]]:
        """The paper's numbers of every cell, by the texts of its values. Raises: UserError for what is not there."""
        if self.paper is None:
            return {}
        spec = parse_report(self.report)
        return {
            tuple(map(plain, cell.values())): numbers(self.paper, cell, spec, self.metric)
            for cell in self.cells(self.values)
        }


@typed
class ValueMap:
    """How a scale turns the paper's value of one key into its own."""

    factor: Annotated[float, help_text("own = paper * factor; of whole numbers the nearest, at least 1", gt=0)]
    values: Annotated[dict[float, float], help_text("paper to own, for values that the factor does not fit")] = Field(
        default_factory=dict
    )

    def own(self, paper: int | float, whole: bool) -> int | float:
        """The scale's own value; `whole`: of a key that takes whole numbers."""
        value = self.values.get(paper, paper * self.factor)
        return max(1, round(value)) if whole else float(f"{value:.12g}")


@typed
class Scale:
    """How big the experiment is."""

    name: str
    summary: Annotated[str, help_text("one line")]
    is_paper: Annotated[bool, help_text("whether this is the paper's own setting")]
    base: Annotated[dict[str, Any], help_text("dotted keys that this scale sets")]
    map: Annotated[dict[str, ValueMap], help_text("keys whose paper value is mapped")]


_KEYS = {"action", "data", "evaluations", "launcher", "output_dir", "run", "scale", "seed", "seeds", "study"}
_KEYS |= {"tracking", "watch"}
_COLUMNS = {"cause", "high", "interval", "kind", "low", "mean", "n", "name", "paper", "runs", "state", "states"}
RESERVED = frozenset(_KEYS | _COLUMNS)
"""What the command line or a column of table.csv is called; an axis would hide it."""


def check_study(study: Study) -> None:
    """Raises: UserError for what the types alone cannot see."""
    _check_evaluations(study)
    _check_axes(study)
    if study.metric not in study.metrics:
        raise InvalidValue("metric", study.metric, f"one of {', '.join(study.metrics)}")
    check_report(study.report, study.values, study.metric, study.metrics)
    spec = parse_report(study.report)
    if isinstance(spec, Panel) and study.kinds[spec.evaluation] != spec.figure:
        raise InvalidValue("report.evaluation", spec.evaluation, f"an evaluation of the kind {spec.figure}")
    if isinstance(spec, Table) and spec.bold:
        for metric in spec.metric_axes(study.metric):
            if study.kinds.get(metric.partition(".")[0]) != "transfer":
                raise InvalidValue("report.bold", spec.bold, f"metrics of transfer; {metric} has no test")
    axes = axes_of_places(study.values, spec, study.metric)
    if study.paper:
        all_axes = {**study.values, **axes}
        check_paper(study.paper, all_axes, study.metrics)
        study.paper_numbers()
    if study.claims:
        shown = [group.values for group in groups(list(study.cells(study.values)), spec)]
        points = [place.values for place in places(shown, spec, study.metric)]
        methods = [row["label"] for row in others(study.paper)] if study.paper else []
        is_printed = bool(study.paper and study.paper.numbers)
        check_claims(study.claims, points, axes, study.metrics, methods, is_printed)


def _check_evaluations(study: Study) -> None:
    for name, settings in study.asked.items():
        where = f"evaluations.{name}"
        if name == "train" or "." in name:
            raise InvalidValue("evaluations", name, "a name without dots, other than train")
        if name in EVALUATIONS and settings["kind"] != name:
            raise InvalidValue(f"{where}.kind", settings["kind"], f"{name}, which this evaluation is called after")
        if settings["kind"] not in EVALUATIONS:
            raise unknown_name(f"kind of evaluation in {where}", str(settings["kind"]), EVALUATIONS)
        evaluation_config(settings, prefix=f"{where}.")


def _check_keys(study: Study) -> None:
    """Raises: UserError unless every dotted key exists."""
    of_evaluations = evaluation_keys(study.asked)
    flat = known_keys(RunConfig)

    def check(keys: Mapping[str, Any], where: str, flat: dict[str, Any]) -> None:
        for key, value in keys.items():
            if key == "seed":
                raise InvalidValue(f"{where}.seed", value, "no seed: each cell is run under all of seeds=N")
            if not key.startswith(PREFIX):
                assign(flat, key, value, where)
            elif key not in of_evaluations:
                raise unknown_name(f"key in {where}", key, of_evaluations)

    check(study.base, "base", flat)
    for axis, values in study.values.items():
        for value in values:
            check(study.sets(axis, value), "axes" if "." in axis else f"axes.{axis}", dict(flat))
    for name, reference in study.references.items():
        check(reference.set, f"references.{name}.set", dict(flat))


def _check_axes(study: Study) -> None:
    for key, values in study.values.items():
        if not values:
            raise UserError(f"axis {key} has no values")
        if key in RESERVED:
            raise InvalidValue("axes", key, f"an axis called otherwise than {', '.join(sorted(RESERVED))}")
        if len({repr(value) for value in values}) < len(values):
            raise InvalidValue(key, values, "each value of an axis once")
        if isinstance(study.axes[key], dict) and "." in key:
            raise InvalidValue("axes", key, "an axis whose values set several keys has a name without dots")
    _check_keys(study)
    for number, left_out in enumerate(study.exclude):
        validate_selection(left_out, study.values, f"exclude.{number}")
    if next(study.cells(study.values), None) is None:
        raise UserError("exclude leaves no cell")
    for scale, at_scale in study.scales.items():
        validate_selection(at_scale.narrow, study.values, f"scales.{scale}.narrow")
        if next(study.cells({**study.values, **study.narrowed(scale)}), None) is None:
            raise UserError(f"scales.{scale}.narrow leaves no cell")
