"""What is measured on the runs of a study: the full settings of each named evaluation.

From weak to strong: the kind's defaults, the study's base, both in the paper's values and mapped by the scale; the
scale's base; the evaluation's own settings in the study and those of a cell, mapped by the scale; the command line,
first `evaluate.<kind>.<key>` for all evaluations of a kind, then `evaluate.<name>.<key>`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from core.config import EVALUATIONS, as_dict, evaluation_config, known_keys
from core.errors import InvalidValue, unknown_name
from sweeps.keys import PREFIX

Scaled = Callable[[str, Any], Any]
"""A key and its value in the paper to the value at a scale."""


def evaluation_keys(asked: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Every key of the evaluations asked for, by kind and by name; and those of kinds that are not asked for."""
    kinds = {**{kind: kind for kind in EVALUATIONS}, **{name: own["kind"] for name, own in asked.items()}}
    return [f"{PREFIX}{name}.{key}" for name, kind in kinds.items() for key in known_keys(EVALUATIONS[kind])]


def resolve(
    asked: Mapping[str, Mapping[str, Any]],
    base: Mapping[str, Any],
    scale_base: Mapping[str, Any],
    own: Mapping[str, Any],
    overrides: Mapping[str, Any],
    scaled: Scaled,
) -> dict[str, dict[str, Any]]:
    """Name of each evaluation to {"kind": kind, **full settings}.

    asked: the study's evaluations. The others are dotted `evaluate.` keys: of the study's base, the scale's, the cell's
    own and the command line's. Raises: UserError naming the key.
    """
    known = evaluation_keys(asked)
    for key in (*base, *scale_base, *own, *overrides):
        if key not in known:
            raise unknown_name("key", key, known)
    for key, value in (*own.items(), *overrides.items()):
        if not concerned(key, asked):
            raise InvalidValue(key, value, f"this study asks for the evaluations {', '.join(asked)}")
    full = {}
    for name, settings in asked.items():
        kind = settings["kind"]
        of_kind, of_name = f"{PREFIX}{kind}.", f"{PREFIX}{name}."
        papers = {**known_keys(EVALUATIONS[kind]), **_under(of_kind, base)}
        scales = _under(of_kind, scale_base)
        own_settings = {**_without_kind(settings), **_under(of_kind, own), **_under(of_name, own)}
        flat = {key: scaled(of_kind + key, value) for key, value in {**papers, **own_settings}.items()}
        flat |= {key: value for key, value in scales.items() if key not in own_settings}
        flat |= {**_under(of_kind, overrides), **_under(of_name, overrides)}
        _, config = evaluation_config({"kind": kind, **flat}, prefix=of_name)
        full[name] = {"kind": kind, **as_dict(config)}
    return full


def without_effect(overrides: Mapping[str, Any], evaluations: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """Those of the `evaluate.` keys that change none of these evaluations."""
    idle = set(overrides)
    for name, tree in evaluations.items():
        kind, config = evaluation_config(tree, prefix=f"{PREFIX}{name}.")
        read = known_keys(EVALUATIONS[kind]).keys() - config.without_effect()
        of_name = {f"{PREFIX}{name}.{key}" for key in read}
        # What is said of one evaluation by its name is not changed by what is said of its kind.
        of_kind = {f"{PREFIX}{kind}.{key}" for key in read if f"{PREFIX}{name}.{key}" not in overrides or name == kind}
        idle -= of_name | of_kind
    return idle


def concerned(key: str, asked: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether an `evaluate.` key is about an evaluation that is asked for."""
    name = key.split(".")[1]
    return name in asked or any(settings["kind"] == name for settings in asked.values())


def _under(prefix: str, flat: Mapping[str, Any]) -> dict[str, Any]:
    return {key.removeprefix(prefix): value for key, value in flat.items() if key.startswith(prefix)}


def _without_kind(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key != "kind"}
