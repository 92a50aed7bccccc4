"""What makes two runs the same run.

A run id is the hash of the run's full resolved config, less the machine-only keys, plus the schema
version. So moving the data set, or using another device, finds the same run; any other change of
config, a changed default included, is another run.
"""

import hashlib
import json
from collections.abc import Mapping
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
    return run_id_of(dict(flatten(as_dict(config))))


def run_id_of(flat: Mapping[str, Any]) -> str:
    """The run id of a validated config given as dotted keys."""
    science = {key: value for key, value in flat.items() if not is_machine_key(key)}
    return digest({"schema": SCHEMA_VERSION, "run": science})


def evaluation_id(run: str, kind: str, config: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that name one evaluation of one run."""
    return digest({"schema": SCHEMA_VERSION, "run": run, "kind": kind, "config": dict(config)})


def digest(value: Any) -> str:
    """Hash of plain values; the order of mapping keys does not matter."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=ID_LENGTH // 2).hexdigest()
