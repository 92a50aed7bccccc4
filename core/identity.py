"""What makes two runs the same run.

A run id is the hash of the run's full resolved config, less the machine-only keys, plus the schema
version. So moving the data set, or using another device, finds the same run; any other change of
config, a changed default included, is another run.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from core.config import SECTIONS, RunConfig, as_dict

SCHEMA_VERSION = 1
"""Raised when the meaning of a config key or of a run directory's files changes."""

MACHINE_KEYS = frozenset(
    {
        "data.root",
        "data.transfer_root",
        "data.download",
        "data.cache_dir",
        "data.cache_gb",
        "data.max_bad",
        "data.workers",
    }
)
"""Keys that say where and how a run executes, beside everything under `machine.`"""

ID_LENGTH = 16

EvaluationIdOf = Callable[[str], str]
"""From a run's id to that of one of its evaluations."""

_HOLE = "<hole>"


def is_machine_key(key: str) -> bool:
    return key in MACHINE_KEYS or key.startswith("machine.")


def run_id(config: RunConfig) -> str:
    """Sixteen hexadecimal digits that name the run."""
    return run_ids(config, [config.seed])[0]


def run_ids(config: RunConfig, seeds: Sequence[int]) -> list[str]:
    """The run ids of a config under several seeds.

    The text that is hashed is put together from its sections, most of which all cells of a study share. Sections have
    no parts of their own, so dotted keys in order are the sections in order, each with its keys in order.
    """
    sections = {name: _section_text(name, getattr(config, name)) for name in SECTIONS}
    sections["seed"] = f'"seed":{_HOLE}'
    science = ",".join(sections[name] for name in sorted(sections) if sections[name])
    before, after = f'{{"run":{{{science}}},"schema":{SCHEMA_VERSION}}}'.split(_HOLE)
    return [_hash(f"{before}{seed}{after}") for seed in seeds]


@lru_cache(maxsize=4096)
def _section_text(name: str, section: Any) -> str:
    """A section's part of the text that names a run: `_text` of its dotted science keys, without the braces."""
    flat = {f"{name}.{key}": _without_signed_zero(value) for key, value in as_dict(section).items()}
    return _text({key: value for key, value in flat.items() if not is_machine_key(key)})[1:-1]


def _without_signed_zero(value: Any) -> Any:
    """Equal sections share a text, and -0.0 equals 0.0."""
    if isinstance(value, list | tuple):
        return [_without_signed_zero(item) for item in value]
    return value + 0.0 if isinstance(value, float) else value


def evaluation_id(run: str, kind: str, config: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that name one evaluation of one run."""
    return evaluation_digests({"kind": kind, **config})(run)


def evaluation_digests(settings: Mapping[str, Any]) -> EvaluationIdOf:
    """From a run's id to the id of its evaluation with these settings, {"kind": kind, **full config}.

    What is the same for all runs is written out once.
    """
    config = {key: value for key, value in settings.items() if key != "kind"}
    named = {"schema": SCHEMA_VERSION, "run": _HOLE, "kind": settings["kind"], "config": config}
    before, after = _text(named).split(f'"{_HOLE}"')
    return lambda run: _hash(f'{before}"{run}"{after}')


def digest(value: Any) -> str:
    """Hash of plain values; the order of mapping keys does not matter."""
    return _hash(_text(value))


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=ID_LENGTH // 2).hexdigest()
