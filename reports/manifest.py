"""What a study asked for: the typed reading of `study.json`, which the planner writes (docs/design.md).

Everything that a report shows about the request comes from here; what came of it, from the run
directories. Keys that this version does not know are left alone, a newer schema is refused.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from core.errors import InvalidValue, UserError
from core.rundir import read_json

SCHEMA = 1
MANIFEST_FILE = "study.json"
NOTEBOOK_FILE = "report.ipynb"

_typed = dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="ignore"))

METRIC_WORDS = {
    "top1": "top-1 accuracy (%)",
    "top5": "top-5 accuracy (%)",
    "validation_top1": "top-1 accuracy on held-out training pictures (%)",
    "accuracy": "accuracy (%)",
    "entropy": "entropy (nats)",
    "parameters": "parameters (millions)",
    "score": "accuracy (%)",
    "guess": "random guess (%)",
    "found": "crops that find their picture (%)",
    "found_distorted": "the same after colour distortion (%)",
    "chance": "chance (%)",
}


@_typed
class Published:
    """A row of numbers that the paper gives for comparison, such as another method's."""

    label: str
    metrics: dict[str, float]


@_typed
class Paper:
    """Which numbers of the paper stand beside the study's."""

    source: str = ""
    what: str = ""
    where: str = ""
    data: str = "image_folder"
    others: tuple[Published, ...] = ()


@_typed
class Study:
    """The study as its YAML file states it; the modules that use `claims` and `report` check them."""

    name: str
    metric: str
    report: dict[str, Any]
    title: str = ""
    summary: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    claims: tuple[dict[str, Any], ...] = ()
    paper: Paper | None = None


@_typed
class Mapped:
    """One of the paper's settings and what the scale made of it."""

    key: str
    paper: Any
    own: Any


@_typed
class Scale:
    name: str
    is_paper: bool
    mapped: tuple[Mapped, ...] = ()


@_typed
class Data:
    name: str
    image_size: int
    has_stand_ins: bool = False
    """Whether the data sets that it transfers to are procedural stand-ins for those that they are called after."""
    skipped: int = 0
    """Pictures that cannot be decoded and are left out."""


@_typed
class Axis:
    key: str
    values: tuple[Any, ...]


@_typed
class PlannedRun:
    """One run of a cell or of a reference, with the ids of the evaluations asked for by name."""

    seed: int
    run: str
    evaluations: dict[str, str] = field(default_factory=dict)


@_typed
class Cell:
    values: dict[str, Any]
    runs: tuple[PlannedRun, ...]
    paper: float | None = None
    paper_metrics: dict[str, float] = field(default_factory=dict)

    def printed(self, metric: str) -> dict[str, float]:
        """The paper's numbers for this cell by metric; `metric` is the study's."""
        return {**self.paper_metrics, **({} if self.paper is None else {metric: self.paper})}


@_typed
class Reference:
    name: str
    label: str
    runs: tuple[PlannedRun, ...]


@_typed
class Manifest:
    """A whole `study.json`, and the folder in which it lies."""

    schema: int
    study: Study
    scale: Scale
    data: Data
    seeds: tuple[int, ...]
    axes: tuple[Axis, ...]
    cells: tuple[Cell, ...]
    references: tuple[Reference, ...] = ()
    overrides: tuple[str, ...] = ()
    runs_dir: str = "../../runs"
    tracking_uri: str = ""
    folder: Path

    @property
    def runs_folder(self) -> Path:
        return self.folder / self.runs_dir

    @property
    def metric_label(self) -> str:
        return self.label_of_metric(self.study.metric)

    def label_of_metric(self, metric: str) -> str:
        """A metric in words, such as "linear evaluation, top-1 accuracy (%)"."""
        source, _, name = metric.partition(".")
        place = "" if name == "parameters" else "training" if source == "train" else f"{source} evaluation"
        words = [self.study.labels.get(source, place), METRIC_WORDS.get(name, name.replace("_", " "))]
        return self.study.labels.get(metric, ", ".join(filter(None, words)))

    @property
    def setting(self) -> str:
        """Data and scale in words, saying plainly when they are not the paper's."""
        transfer = ", transfer to procedural stand-ins" if self.data.has_stand_ins else ""
        words = f"{self.data.name} data{transfer}, scale {self.scale.name}"
        if not self.is_paper_setting:
            return f"{words}: not the paper's setting"
        return words

    @property
    def is_paper_setting(self) -> bool:
        pictures = self.study.paper.data if self.study.paper else "image_folder"
        own = self.data.name != pictures or self.data.has_stand_ins
        return self.scale.is_paper and not own and not self.overrides

    @property
    def published(self) -> dict[str, dict[str, float]]:
        """Other methods' numbers in the paper: {metric: number} by label."""
        return published(self.study.paper.others) if self.study.paper else {}

    def label(self, key_or_value: Any) -> str:
        """The text shown for an axis key or a value."""
        text = plain(key_or_value)
        return self.study.labels.get(text, text)

    def label_on(self, key: str, value: Any) -> str:
        """The text shown for a value of one axis: its own label `<key>=<value>` where there is one."""
        return self.study.labels.get(f"{key}={plain(value)}", self.label(value))

    def planned(self) -> Iterator[tuple[int, Cell | Reference, PlannedRun]]:
        """Every run with the number of its row; cells come first, then references."""
        owners: list[Cell | Reference] = [*self.cells, *self.references]
        for row, owner in enumerate(owners):
            for run in owner.runs:
                yield row, owner, run


def published(rows: Iterable[Published]) -> dict[str, dict[str, float]]:
    """{metric: number} by label; a method may have a row in several tables of the paper."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        found.setdefault(row.label, {}).update(row.metrics)
    return found


def plain(value: Any) -> str:
    """A key or value as the text that stands for it in labels and tables."""
    return value if isinstance(value, str) else json.dumps(value)


_adapter = TypeAdapter(Manifest)


def read(folder: Path) -> Manifest:
    """The manifest of the report folder `folder`; without study.json, the copy in its notebook.

    Raises: UserError if there is none, it is malformed or of a newer schema.
    """
    file = folder / MANIFEST_FILE
    try:
        record = read_json(file)
    except ValueError as error:
        raise UserError(f"{file}: not JSON: {error}") from None
    if record is None:
        notebook = read_json(folder / NOTEBOOK_FILE) or {}
        record = notebook.get("metadata", {}).get("study_manifest")
    if record is None:
        raise UserError(f"{folder}: no {MANIFEST_FILE} here; a report folder is outputs/reports/<study>")
    return parse(record, folder)


def parse(record: Mapping[str, Any], folder: Path) -> Manifest:
    """The plain values of a manifest, typed. Raises: UserError."""
    schema = record.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise UserError(f"{folder}: schema={schema}: this program reads manifests up to schema {SCHEMA}")
    try:
        return _adapter.validate_python({**record, "folder": folder})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InvalidValue(f"{folder / MANIFEST_FILE}: {key}", first["input"], first["msg"]) from None
