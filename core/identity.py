"""What makes two runs the same run.

A run id is the hash of the run's full resolved config, less the machine-only keys, plus the schema
version. So moving the data set, or using another device, finds the same run; any other change of
config, a changed default included, is another run.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from core.config import RunConfig, as_dict, flatten

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


def is_machine_key(key: str) -> bool:
    return key in MACHINE_KEYS or key.startswith("machine.")


def run_id(config: RunConfig) -> str:
    """Sixteen hexadecimal digits that name the run."""
    return digest(_named_by_run(dict(flatten(as_dict(config)))))


def evaluation_id(run: str, kind: str, config: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that name one evaluation of one run."""
    return digest(_named_by_evaluation(run, kind, config))


def _named_by_run(flat: Mapping[str, Any]) -> dict[str, Any]:
    science = {key: value for key, value in flat.items() if not is_machine_key(key)}
    return {"schema": SCHEMA_VERSION, "run": science}


def _named_by_evaluation(run: str, kind: str, config: Mapping[str, Any]) -> dict[str, Any]:
    return {"schema": SCHEMA_VERSION, "run": run, "kind": kind, "config": dict(config)}


def run_ids(config: RunConfig, seeds: Sequence[int]) -> list[str]:
    """The run ids of a config under several seeds."""
    flat = {**dict(flatten(as_dict(config))), "seed": _HOLE}
    return list(map(_Digests(_named_by_run(flat)), seeds))


def evaluation_ids(runs: Sequence[str], kind: str, config: Mapping[str, Any]) -> list[str]:
    """The id of the same evaluation of each of these runs."""
    return list(map(_Digests(_named_by_evaluation(_HOLE, kind, config)), runs))


def digest(value: Any) -> str:
    """Hash of plain values; the order of mapping keys does not matter."""
    return _hash(_text(value))


class _Digests:
    """`digest` of a value with a hole, for what is put into the hole: what stays is written out once."""

    def __init__(self, value: Any):
        self._before, self._after = _text(value).split(_text(_HOLE))

    def __call__(self, leaf: Any) -> str:
        return _hash(self._before + _text(leaf) + self._after)


_HOLE = "<hole>"


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=ID_LENGTH // 2).hexdigest()
