"""What the user asked for: the command line and the YAML files, joined by Hydra and typed.

Keys of one run (`train.epochs=20`) are kept apart from the Hydra groups and settings of the sweep: they
apply to every cell, or narrow an axis when they name one.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as pydantic_dataclass

from core.config import EVALUATIONS, DataConfig, RunConfig, key_names, known_keys, parse
from core.errors import InvalidValue, UserError, unknown_name
from core.identity import is_machine_key
from reports.manifest import plain
from sweeps.evaluations import concerned, evaluation_keys
from sweeps.keys import PREFIX
from sweeps.launcher import LAUNCHERS
from sweeps.override import key_of, parse_word, text_of, values_of
from sweeps.study import Scale, Study, check_study

ABLATIONS = Path(__file__).resolve().parent.parent / "ablations"
GROUPS = ("study", "scale", "data", "launcher")
DEFAULTS = {"scale": "mini", "data": "synthetic", "launcher": "local"}
"""Of the groups, as ablations/config.yaml has it."""
MOST_SEEDS = 1000
_SEXAGESIMAL = re.compile(r"^time:\s*([1-9][0-9_]*(?::[0-5]?[0-9])+)\s*(?:#.*)?$", re.MULTILINE)
"""A time in a profile that YAML 1.1 reads as a number to the base 60."""

_typed = pydantic_dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))


@_typed
class Tracking:
    enabled: Annotated[bool, Field(description="mirror runs into MLflow")] = True
    uri: Annotated[str, Field(description="MLflow server or store; empty: sqlite in output_dir")] = ""


@_typed
class Settings:
    """The top-level keys."""

    action: Literal["run", "plan", "status", "cancel", "report", "track", "logs"] = "run"
    watch: bool = False
    run: str = ""
    seeds: int | list[Annotated[int, Field(strict=True)]] = 1
    evaluations: list[str] = Field(default_factory=list)
    output_dir: Annotated[str, Field(min_length=1)] = "outputs"
    tracking: Tracking = Tracking()


@dataclass(frozen=True)
class Request:
    """One study, as asked for."""

    study: Study
    scale: Scale
    data: dict[str, Any]
    """Dotted `data.` keys of the data group."""
    axes: dict[str, list[Any]]
    """The study's axes, narrowed by the scale or, instead, by the user."""
    overrides: dict[str, Any]
    """Dotted keys of runs and evaluations that the user set, in this scale's own values."""
    changes: tuple[str, ...]
    """The same and the narrowed axes, as typed, less what only says where and how; shown in the report."""
    seeds: tuple[int, ...]
    settings: Settings
    launcher: Any
    """The settings of one of LAUNCHERS."""

    @cached_property
    def output(self) -> Path:
        return Path(os.path.expanduser(self.settings.output_dir)).absolute()

    @cached_property
    def runs(self) -> Path:
        return self.output / "runs"

    @property
    def report_dir(self) -> Path:
        return self.output / "reports" / self.study.name

    @property
    def manifest(self) -> Path:
        return self.report_dir / "study.json"

    @property
    def tracking_uri(self) -> str:
        return self.settings.tracking.uri or f"sqlite:///{self.output / 'mlflow.db'}"


def study_names(folders: Sequence[Path] = ()) -> list[str]:
    return _options("study", folders)


def load_study(name: str, folders: Sequence[Path] = ()) -> Study:
    """The study called `name`. Raises: UserError naming file, key and what is allowed."""
    if name not in study_names(folders):
        raise unknown_name("study", name, [*study_names(folders), "list", "all"])
    own = [folder / "study" / f"{name}.yaml" for folder in folders]
    file = next((file for file in own if file.exists()), ABLATIONS / "study" / f"{name}.yaml")
    called = file if file in own else file.relative_to(ABLATIONS.parent)
    try:
        study = _parse_study(OmegaConf.to_container(OmegaConf.load(file), resolve=True), name)
        known = _options("scale", folders)
        for scale in study.scales:
            if scale not in known:
                raise unknown_name("scale in scales", scale, known)
        return study
    except RecursionError:
        raise UserError(f"{called}: a value contains itself") from None
    except (UserError, OmegaConfBaseException, yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{called}: {' '.join(str(error).split())}") from None


def _parse_study(content: Any, name: str) -> Study:
    if not isinstance(content, dict):
        raise UserError("must be keys with values, such as name: NAME")
    study = parse(Study, content)
    if study.name != name:
        raise InvalidValue("name", study.name, f"the study's file is called {name}.yaml")
    check_study(study)
    return study


def read(arguments: Sequence[str], folders: Sequence[Path] = ()) -> list[Request]:
    """Command-line overrides to requests, one per study asked for.

    Raises: UserError naming the key, the value and what is allowed.
    """
    # Of a key that is given twice the last one counts, as Hydra has it.
    words = [parse_word(argument, _text_keys()) for argument in arguments]
    overrides = list({key_of(override): override for override in words}.values())
    for override in overrides:
        key = key_of(override)
        if override.is_sweep_override() and (key in (*GROUPS, "action", "seeds") or key.startswith("launcher.")):
            allowed = "one value; several seeds are seeds=[0,1], several studies study=all"
            raise UserError(f"{text_of(override)}: {allowed}")
    named = [str(override.value()) for override in overrides if key_of(override) == "study"]
    if not named or named[-1] == "list":
        _split(overrides, [load_study(name, folders) for name in study_names(folders)])  # it may be `study`, misspelt
        raise UserError(f"study is missing: add study=NAME, one of {', '.join(study_names(folders))}, or study=all")
    names = study_names(folders) if named[-1] == "all" else named[-1:]
    added = _added_evaluations(overrides)
    studies = [load_study(name, folders).measuring(added) for name in names]
    sweep, run = _split(overrides, studies)
    chosen = DEFAULTS | {key: str(override.value()) for override in sweep if (key := key_of(override)) in DEFAULTS}
    _check_choices(chosen, folders)
    _check_launcher(chosen["launcher"], sweep, folders)
    composed = [override for override in sweep if key_of(override) != "study"]
    # A profile may leave out keys of the launcher: ++ adds them.
    tree = _compose(["++" * key_of(one).startswith("launcher.") + text_of(one) for one in composed], folders)
    taken = [_taken(study, run, alone=named[-1] != "all") for study in studies]
    for override in run:
        if not any(override in of_study for of_study in taken):
            raise UserError(f"{text_of(override)}: no study has such an axis or asks for such an evaluation")
    requests = [
        _request(study, tree, chosen["scale"], of_study) for study, of_study in zip(studies, taken, strict=True)
    ]
    settings = requests[0].settings
    if settings.run and settings.action != "logs":
        raise InvalidValue("run", settings.run, "only with action=logs")
    if settings.watch and settings.action != "status":
        raise InvalidValue("watch", settings.watch, "only with action=status")
    return requests


def _added_evaluations(overrides: Sequence[Override]) -> list[str]:
    """Kinds to be measured beside what a study asks for. Raises: UserError."""
    given = next((override for override in overrides if key_of(override) == "evaluations"), None)
    if given is None:
        return []
    kinds = None if given.is_sweep_override() else given.value()
    if not isinstance(kinds, list):
        raise UserError(f"{text_of(given)}: a list, such as [knn], of {', '.join(EVALUATIONS)}")
    for kind in map(str, kinds):
        if kind not in EVALUATIONS:
            raise unknown_name("evaluation", kind, EVALUATIONS)
    return kinds


def _request(study: Study, tree: dict[str, Any], scale: str, run: list[Override]) -> Request:
    launcher = tree["launcher"]
    kind = LAUNCHERS.get(launcher.get("name"))
    if kind is None:
        raise InvalidValue("name in the launcher's file", launcher.get("name"), f"one of {', '.join(LAUNCHERS)}")
    settings = parse(Settings, {key: tree[key] for key in tree if key not in GROUPS})
    axes, overrides = {**study.values, **study.narrowed(scale)}, {}
    for override in run:
        key, values = key_of(override), values_of(override)
        if key in axes:
            axes[key] = _narrowed(study, key, values)
        else:
            overrides[key] = values[0]
    return Request(
        study=study,
        scale=parse(Scale, {"name": scale, **tree["scale"]}, prefix=f"scale {scale}: "),
        data={f"data.{key}": value for key, value in tree["data"].items()},
        axes=axes,
        overrides=overrides,
        changes=tuple(text_of(override) for override in run if not is_machine_key(key_of(override))),
        seeds=_seeds(settings.seeds),
        settings=settings,
        launcher=parse(kind, launcher, prefix="launcher."),
    )


def _split(overrides: Sequence[Override], studies: Sequence[Study]) -> tuple[list[Override], list[Override]]:
    """The overrides of the sweep (groups and settings), and those of runs, evaluations and axes."""
    run_keys = list(known_keys(RunConfig))
    sections = {key.split(".")[0] for key in run_keys if "." in key} | {"seed"}
    for study in studies:
        run_keys += [*evaluation_keys(study.asked), *(axis for axis in study.axes if "." not in axis)]
    run_keys = list(dict.fromkeys(run_keys))
    sweep_keys = [*GROUPS, "action", "seeds", "evaluations", "output_dir", "tracking.enabled", "tracking.uri"]
    sweep_keys += ["seed", "watch", "run"]
    sweep_keys += [key for kind in LAUNCHERS.values() for key in key_names(kind, "launcher.")]
    sweep, run = [], []
    for override in overrides:
        key = key_of(override)
        if override.is_delete() or override.is_add() or override.is_force_add():
            raise UserError(f"{override.input_line}: every key exists already; write it without + or ~")
        if key == "seed":
            raise UserError(f"{override.input_line}: write seeds=3 for the seeds 0, 1, 2 or seeds=[7] for seed 7")
        section, _, rest = key.partition(".")
        if key in run_keys or (section in sections and key.rsplit(".", 1)[0] in run_keys):
            run.append(override)
        elif key in sweep_keys:
            sweep.append(override)
        else:
            inside = rest and section in sections | {PREFIX.rstrip(".")}
            raise unknown_name("key", key, run_keys if inside else [*sweep_keys, *run_keys])
    return sweep, run


def _taken(study: Study, run: Sequence[Override], alone: bool) -> list[Override]:
    """The overrides that are for this study; with study=all, not those of other studies' axes. Raises: UserError."""
    taken = []
    set_by = {key: axis for axis, values in study.values.items() for value in values for key in study.sets(axis, value)}
    keys = {*evaluation_keys(study.asked), *study.axes}
    for override in run:
        key = key_of(override)
        if key not in study.axes and key in set_by:
            raise UserError(f"{text_of(override)}: {study.name} sets {key} by its axis {set_by[key]}; narrow that")
        of_another = key not in keys and ("." not in key or key.startswith(PREFIX))
        of_another |= key.startswith(PREFIX) and not concerned(key, study.asked)
        several = key not in study.axes and len(values_of(override)) > 1
        if several and alone:
            raise UserError(
                f"{text_of(override)}: several values narrow an axis of the study, and {key} is none; "
                f"axes of {study.name}: {', '.join(study.axes) or 'none'}"
            )
        if of_another and alone:
            asked = ", ".join(study.asked)
            raise UserError(
                f"{text_of(override)}: study {study.name} does not ask for this evaluation, but for {asked}"
            )
        if not several and not of_another:
            taken.append(override)
    return taken


@cache
def _text_keys() -> frozenset[str]:
    """Keys whose value is any text: a path with blanks, brackets or umlauts, a run id that looks like a number."""
    kinds = {"": Settings, "tracking.": Tracking, "data.": DataConfig}
    typed = [*kinds.items(), *(("launcher.", kind) for kind in LAUNCHERS.values())]
    return frozenset(
        prefix + key for prefix, kind in typed for key, hint in get_type_hints(kind).items() if hint is str
    )


def _check_launcher(chosen: str, sweep: Sequence[Override], folders: Sequence[Path]) -> None:
    """Raises: UserError for a setting of another launcher, and for a clock that the launcher's file does not quote."""
    if not any(key_of(override) == "launcher.time" for override in sweep):
        _check_clock(chosen, folders)
    for override in sweep:
        key, value = key_of(override), override.value()
        having = [name for name, kind in LAUNCHERS.items() if key in key_names(kind, "launcher.")]
        # A profile of the user's own may be for any of them.
        if having and chosen in LAUNCHERS and chosen not in having:
            raise InvalidValue(key, value, f"only with launcher={' or '.join(having)}")


def _check_clock(profile: str, folders: Sequence[Path]) -> None:
    """Raises: InvalidValue for a clock that a launcher's file does not quote."""
    files = [folder / "launcher" / f"{profile}.yaml" for folder in (ABLATIONS, *folders)]
    file = next((file for file in files if file.exists()), None)
    if file and (clock := _SEXAGESIMAL.search(file.read_text(errors="replace"))):
        allowed = f"needs quotes in {file}, as YAML takes it for a number of seconds"
        raise InvalidValue("launcher.time", clock[1], allowed)


def _check_choices(chosen: Mapping[str, str], folders: Sequence[Path]) -> None:
    """Raises: UserError for an option of a Hydra group that does not exist, or that exists twice."""
    for group, name in chosen.items():
        options = _options(group, folders)
        if name not in options:
            raise unknown_name(group, name, options)
        others = [folder for folder in folders if folder.resolve() != ABLATIONS]
        own = [file for folder in others if (file := folder / group / f"{name}.yaml").exists()]
        if own and (ABLATIONS / group / f"{name}.yaml").exists():
            raise UserError(
                f"{group}={name}: {own[0]} has the name of the program's own, which would hide it; rename it"
            )


def _options(group: str, folders: Sequence[Path]) -> list[str]:
    return sorted({file.stem for folder in [ABLATIONS, *folders] for file in (folder / group).glob("*.yaml")})


def _compose(overrides: list[str], folders: Sequence[Path]) -> dict[str, Any]:
    search = [f"hydra.searchpath={['file://' + str(folder.resolve()) for folder in folders]}"] if folders else []
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(ABLATIONS)):
            tree = OmegaConf.to_container(compose("config", overrides=[*overrides, *search]), resolve=True)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(" ".join(str(error).split())) from None
    assert isinstance(tree, dict)
    if not isinstance(tree["launcher"], dict):
        raise UserError("the launcher's file must be keys with values, such as name: slurm")
    return {str(key): value for key, value in tree.items()}


def _narrowed(study: Study, key: str, values: list[Any]) -> list[Any]:
    """The user's values of an axis: `a,b`, or `[a,b]` unless its values are lists themselves."""
    known = study.values[key]
    if len(values) == 1 and isinstance(values[0], list) and not any(isinstance(value, list) for value in known):
        values = values[0]
    if not values:
        raise InvalidValue(key, "[]", f"at least one of {', '.join(map(str, known))}")
    if not isinstance(study.axes[key], dict):
        return values
    by_text = {plain(value): value for value in known}
    for value in values:
        if plain(value) not in by_text:
            raise unknown_name(f"value of {key}", plain(value), by_text)
    return [by_text[plain(value)] for value in values]


def _seeds(seeds: int | list[int]) -> tuple[int, ...]:
    allowed = f"a number of seeds, 1 to {MOST_SEEDS}, or a list of different seeds, each from 0 to 2^63 - 1"
    if isinstance(seeds, int) and not 1 <= seeds <= MOST_SEEDS:
        raise InvalidValue("seeds", seeds, allowed)
    chosen = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    in_range = all(0 <= seed < 2**63 for seed in chosen)
    if not chosen or not in_range or len(set(chosen)) < len(chosen) or len(chosen) > MOST_SEEDS:
        raise InvalidValue("seeds", seeds, allowed)
    return chosen
