"""What the user asked for: the command line and the YAML files, joined by Hydra and typed.

Keys of one run (`train.epochs=20`) are kept apart from the Hydra groups and settings of the sweep: they
apply to every cell, or narrow an axis when they name one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass as pydantic_dataclass

from core.config import EVALUATIONS, RunConfig, key_names, known_keys, parse
from core.errors import InvalidValue, UserError, unknown_name
from sweeps.launcher import LAUNCHERS
from sweeps.study import Scale, Study, check_study

ABLATIONS = Path(__file__).resolve().parent.parent / "ablations"
GROUPS = ("study", "scale", "data", "launcher")

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
    seeds: int | list[int] = 1
    output_dir: str = "outputs"
    tracking: Tracking = Tracking()


@dataclass(frozen=True)
class Request:
    """One study, as asked for."""

    study: Study
    scale: Scale
    data: dict[str, Any]
    """Dotted `data.` keys of the data group."""
    axes: dict[str, list[Any]]
    """The study's axes, narrowed by the user."""
    overrides: dict[str, Any]
    """Dotted keys of runs and evaluations that the user set, in this scale's own values."""
    changes: tuple[str, ...]
    """The same and the narrowed axes, as typed; shown in the report."""
    seeds: tuple[int, ...]
    settings: Settings
    launcher: Any
    """The settings of one of LAUNCHERS."""

    @property
    def output(self) -> Path:
        return Path(self.settings.output_dir).absolute()

    @property
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
    """The study called `name`. Raises: UserError."""
    if name not in study_names(folders):
        raise unknown_name("study", name, [*study_names(folders), "list", "all"])
    return parse_study(_compose([f"study={name}"], folders), name)


def parse_study(tree: dict[str, Any], name: str) -> Study:
    content = tree["study"]
    if not isinstance(content, dict):
        raise UserError(f"study {name}: the file is empty")
    study = parse(Study, content, prefix=f"study {name}: ")
    if study.name != name:
        raise InvalidValue("name", study.name, f"the study's file is called {name}.yaml")
    check_study(study)
    return study


def read(arguments: Sequence[str], folders: Sequence[Path] = ()) -> list[Request]:
    """Command-line overrides to requests, one per study asked for.

    Raises: UserError naming the key, the value and what is allowed.
    """
    sweep, run = _split(arguments)
    chosen = _choices(sweep, folders)
    study = chosen.pop("study", None)
    if study is None or study == "list":
        raise UserError(f"study is missing: add study=NAME, one of {', '.join(study_names(folders))}, or study=all")
    names = study_names(folders) if study == "all" else [study]
    rest = [override.input_line or "" for override in sweep if override.get_key_element() != "study"]
    return [_request(name, rest, run, folders) for name in names]


def _request(name: str, sweep: list[str], run: list[Override], folders: Sequence[Path]) -> Request:
    tree = _compose([f"study={name}", *sweep], folders)
    study = parse_study(tree, name)
    scale_name = next((line.split("=")[1] for line in sweep if line.startswith("scale=")), "mini")
    scale = parse(Scale, {"name": scale_name, **tree["scale"]}, prefix=f"scale {scale_name}: ")
    launcher = tree["launcher"]
    kind = LAUNCHERS.get(launcher.get("name"))
    if kind is None:
        raise unknown_name("launcher", str(launcher.get("name")), LAUNCHERS)
    settings = parse(Settings, {key: tree[key] for key in tree if key not in GROUPS})
    axes = dict(study.axes)
    overrides = {}
    for override in run:
        key, values = override.get_key_element(), _values(override)
        if key in axes:
            axes[key] = _narrowed(key, values, axes[key])
        elif len(values) == 1:
            overrides[key] = values[0]
        else:
            raise UserError(
                f"{override.input_line}: several values narrow an axis of the study, and {key} is none; "
                f"axes of {study.name}: {', '.join(study.axes) or 'none'}"
            )
    return Request(
        study=study,
        scale=scale,
        data={f"data.{key}": value for key, value in tree["data"].items()},
        axes=axes,
        overrides=overrides,
        changes=tuple(override.input_line or "" for override in run),
        seeds=_seeds(settings.seeds),
        settings=settings,
        launcher=parse(kind, launcher, prefix="launcher."),
    )


def _split(arguments: Sequence[str]) -> tuple[list[Override], list[Override]]:
    """The overrides of the sweep (groups and settings), and those of runs and evaluations."""
    overrides = [_parse(argument) for argument in arguments]
    run_keys = [*known_keys(RunConfig), *_evaluation_keys()]
    sections = {key.split(".")[0] for key in run_keys if "." in key} | {"seed"}
    sweep_keys = [*GROUPS, "action", "seeds", "output_dir", "tracking.enabled", "tracking.uri", "seed", "watch", "run"]
    sweep_keys += [key for kind in LAUNCHERS.values() for key in key_names(kind, "launcher.")]
    sweep, run = [], []
    for override in overrides:
        key = override.get_key_element()
        if override.is_delete() or override.is_add() or override.is_force_add():
            raise UserError(f"{override.input_line}: every key exists already; write it without + or ~")
        if key == "seed":
            raise UserError(f"{override.input_line}: write seeds=3 for the seeds 0, 1, 2 or seeds=[7] for seed 7")
        section, _, rest = key.partition(".")
        if section in sections and rest:
            if key not in run_keys and key.rsplit(".", 1)[0] not in run_keys:
                raise unknown_name("key", key, run_keys)
            run.append(override)
        elif key in sweep_keys:
            sweep.append(override)
        else:
            raise unknown_name("key", key, [*sweep_keys, *run_keys])
    return sweep, run


def _parse(argument: str) -> Override:
    """One override in Hydra's own grammar."""
    if "=" not in argument:
        raise UserError(f"{argument}: write key=value, such as study={argument}")
    try:
        return OverridesParser.create().parse_override(argument)
    except HydraException as error:
        raise UserError(f"{argument}: {str(error).splitlines()[0]}") from None


def _evaluation_keys() -> list[str]:
    return [f"evaluate.{kind}.{key}" for kind, config in EVALUATIONS.items() for key in known_keys(config)]


def _choices(sweep: list[Override], folders: Sequence[Path]) -> dict[str, str]:
    """The option chosen of each Hydra group on the command line."""
    chosen: dict[str, str] = {}
    for override in sweep:
        group = override.get_key_element()
        if group in GROUPS:
            name = str(override.value())
            options = _options(group, folders)
            if group == "study":
                options = [*options, "all", "list"]
            if name not in options:
                raise unknown_name(group, name, options)
            chosen[group] = name
    return chosen


def _options(group: str, folders: Sequence[Path]) -> list[str]:
    return sorted({file.stem for folder in [ABLATIONS, *folders] for file in (folder / group).glob("*.yaml")})


def _compose(overrides: list[str], folders: Sequence[Path]) -> dict[str, Any]:
    search = [f"hydra.searchpath={['file://' + str(folder.resolve()) for folder in folders]}"] if folders else []
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(ABLATIONS)):
            tree = OmegaConf.to_container(compose("config", overrides=[*overrides, *search]), resolve=True)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise UserError(" ".join(str(error).split())) from None
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items()}


def _narrowed(key: str, values: list[Any], asked: list[Any]) -> list[Any]:
    """The user's values of an axis: `a,b`, or `[a,b]` unless its values are lists themselves."""
    if len(values) == 1 and isinstance(values[0], list) and not any(isinstance(value, list) for value in asked):
        values = values[0]
    if not values:
        raise InvalidValue(key, "[]", f"at least one of {', '.join(map(str, asked))}")
    return values


def _values(override: Override) -> list[Any]:
    """One value, or several where the user wrote `a,b` or range(..)."""
    if override.is_sweep_override():
        return list(override.sweep_iterator())
    return [override.value()]


def _seeds(seeds: int | list[int]) -> tuple[int, ...]:
    chosen = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not chosen or min(chosen) < 0 or len(set(chosen)) < len(chosen):
        raise InvalidValue("seeds", seeds, "a number of seeds (at least 1), or a list of different seeds")
    return chosen
