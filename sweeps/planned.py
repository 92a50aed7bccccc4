"""The runs of a cell.

A run's config is built from, in this order: the defaults of core/config.py, the data group, the study's base
(in the paper's values, mapped by the scale), the scale's base, what the user set on the command line (taken as it
is), and the cell's axis values (mapped as well). A key set twice has the later value.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from core.config import (
    EVALUATIONS,
    SECTIONS,
    RunConfig,
    config_of_sections,
    known_keys,
    parse,
    unflatten,
    with_seed,
)
from core.data import DatasetInfo
from core.errors import unknown_name
from core.identity import EvaluationIdOf, evaluation_digests, run_ids
from reports.manifest import plain
from sweeps import evaluations
from sweeps.keys import assign, split
from sweeps.request import Request
from sweeps.study import Scale


@dataclass(frozen=True)
class PlannedRun:
    """One run that should exist, with the evaluations asked of it."""

    id: str
    config: RunConfig
    evaluations: dict[str, dict[str, Any]]
    """Name to {"kind": kind, **full config}."""
    evaluation_ids: dict[str, str]
    """Name to evaluation id."""

    def with_evaluations_of(self, other: "PlannedRun") -> "PlannedRun":
        """The same run with the other's evaluations as well; those of one name with other settings get new names."""
        settings, ids = dict(self.evaluations), dict(self.evaluation_ids)
        for name, identity in other.evaluation_ids.items():
            if identity not in ids.values():
                free = name if name not in ids else f"{name}-{identity}"
                settings[free], ids[free] = other.evaluations[name], identity
        return self if len(ids) == len(self.evaluation_ids) else replace(self, evaluations=settings, evaluation_ids=ids)


def merged(runs: Iterable[PlannedRun]) -> dict[str, PlannedRun]:
    """Every run once, by id, with the evaluations that any cell, or any study, asks of it."""
    found: dict[str, PlannedRun] = {}
    for run in runs:
        known = found.setdefault(run.id, run)
        if known is not run:
            found[run.id] = known.with_evaluations_of(run)
    return found


class RunMaker:
    """Makes runs from the keys that a cell sets; remembers what the scale made of the paper's values.

    The cells of a study differ in few keys, so each section of a config is made once for each of its values.
    """

    def __init__(self, request: Request, info: DatasetInfo):
        """Raises: UserError for a key in the data group or the scale that does not exist."""
        self._request = request
        self._flat = _base(request, info)
        self._base, self._base_of_evaluations = split(request.study.base)
        self._overrides, self._overrides_of_evaluations = split(request.overrides)
        self._scale_of_evaluations = split(request.scale.base)[1]
        self._below: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
        self._shared: dict[tuple[str, ...], dict[str, Any]] = {}
        self._sections: dict[tuple[Any, ...], Any] = {}
        self._asked: dict[str, tuple[dict[str, dict[str, Any]], dict[str, EvaluationIdOf]]] = {}
        self.mapped: dict[str, dict[str, Any]] = {}

    def runs(self, own: Mapping[str, Any]) -> tuple[PlannedRun, ...]:
        """A run per seed; `own`: dotted keys of runs and evaluations, in the paper's values."""
        of_run, of_evaluations = split(own)
        config = self._config(of_run)
        asked, digests = self._evaluations(of_evaluations)
        seeds = self._request.seeds
        return tuple(
            PlannedRun(
                identity, with_seed(config, seed), asked, {name: digest(identity) for name, digest in digests.items()}
            )
            for seed, identity in zip(seeds, run_ids(config, seeds), strict=True)
        )

    def _evaluations(self, own: Mapping[str, Any]) -> tuple[dict[str, dict[str, Any]], dict[str, EvaluationIdOf]]:
        """The evaluations of one cell and how their ids are made; the same objects for all that ask for the same."""
        text = plain(own)
        if text not in self._asked:
            asked = evaluations.resolve(
                self._request.study.asked,
                self._base_of_evaluations,
                self._scale_of_evaluations,
                own,
                self._overrides_of_evaluations,
                self._scaled,
            )
            self._asked[text] = asked, {name: evaluation_digests(tree) for name, tree in asked.items()}
        return self._asked[text]

    def _config(self, own: Mapping[str, Any]) -> RunConfig:
        """The config of one cell under the first seed. Raises: UserError."""
        keys = tuple(own)
        if keys not in self._shared:
            changed = {key.partition(".")[0] for key in keys}
            self._below[keys] = self._without(keys)
            self._shared[keys] = {name: self._section(keys, name, {}) for name in SECTIONS if name not in changed}
        shared = self._shared[keys]
        its_own = {
            name: self._section(keys, name, {key: value for key, value in own.items() if key.startswith(f"{name}.")})
            for name in SECTIONS
            if name not in shared
        }
        return config_of_sections(self._request.seeds[0], {**shared, **its_own})

    def _section(self, keys: tuple[str, ...], name: str, own: Mapping[str, Any]) -> Any:
        place = (keys, name, *map(repr, own.values()))  # "1" and 1 may be different
        if place not in self._sections:
            flat = dict(self._below[keys][name])
            for key, value in own.items():
                assign(flat, key, self._scaled(key, value), f"study {self._request.study.name}")
            self._sections[place] = parse(SECTIONS[name], unflatten(flat)[name], prefix=f"{name}.")
        return self._sections[place]

    def _without(self, own: tuple[str, ...]) -> dict[str, dict[str, Any]]:
        """The dotted keys of each section below those that a cell sets."""
        flat = dict(self._flat)
        where = f"study {self._request.study.name}"
        for key, value in self._base.items():
            # A key that the scale sets outright is out of the study's base's hands.
            if key not in self._request.scale.base and key not in self._overrides and key not in own:
                assign(flat, key, self._scaled(key, value), where)
            else:
                assign(dict(flat), key, value, where)  # refuse a misspelt key even where it is not used
        for key, value in self._overrides.items():
            assign(flat, key, value, "command line")
        sections: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
        for key, value in flat.items():
            section, _, rest = key.partition(".")
            if rest:
                sections[section][key] = value
        return sections

    def _scaled(self, key: str, value: Any) -> Any:
        scaled = _map(self._request.scale, key, value, whole=key in _WHOLE)
        if scaled != value:
            self.mapped.setdefault(f"{key}={value}", {"key": key, "paper": value, "own": scaled})
        return scaled


def _base(request: Request, info: DatasetInfo) -> dict[str, Any]:
    """Dotted run keys below everything that the study and the user say."""
    keys = known_keys(RunConfig)
    run_base, _ = split(request.scale.base)
    flat = dict(keys)
    scale = f"scale {request.scale.name}"
    for where, layer in (("data", request.data), (scale, run_base)):
        for key, value in layer.items():
            if key not in keys:
                raise unknown_name(f"key in {where}", key, keys)
            flat[key] = value
    mappable = [*keys, *evaluations.evaluation_keys({})]
    for key in request.scale.map:
        if key not in mappable:
            raise unknown_name(f"key in map of {scale}", key, mappable)
    flat["data.fingerprint"] = info.fingerprint
    flat["data.cache_dir"] = str(request.output / "data")
    return flat


_WHOLE = {key for key, default in known_keys(RunConfig).items() if isinstance(default, int)} | {
    f"{evaluations.PREFIX}{kind}.{key}"
    for kind, config in EVALUATIONS.items()
    for key, default in known_keys(config).items()
    if isinstance(default, int)
}
"""The keys that take whole numbers."""


def _map(scale: Scale, key: str, value: Any, whole: bool) -> Any:
    if key not in scale.map or not isinstance(value, (int, float)) or value == 0:
        return value
    return scale.map[key].own(value, whole)
