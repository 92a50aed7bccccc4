"""Dotted keys: those of a run, such as `train.epochs`, and those of evaluations, such as `evaluate.linear.l2`."""

from collections.abc import Mapping
from typing import Any

from core.errors import InvalidValue, unknown_name

PREFIX = "evaluate."


def split(flat: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Dotted keys as those of a run and those of evaluations."""
    run = {key: value for key, value in flat.items() if not key.startswith(PREFIX)}
    return run, {key: value for key, value in flat.items() if key.startswith(PREFIX)}


def assign(flat: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Set a dotted key; `augment.transforms.0` is the first item of the list `augment.transforms`.

    Raises: UserError for a key that does not exist.
    """
    if key in flat:
        flat[key] = value
        return
    parent, _, place = key.rpartition(".")
    items = flat.get(parent)
    if not isinstance(items, (list, tuple)) or not place.isdigit():
        raise unknown_name(f"key in {where}", key, flat)
    if int(place) >= len(items):
        raise InvalidValue(key, value, f"{where}: {parent} has {len(items)} items, numbered from 0")
    flat[parent] = [value if index == int(place) else item for index, item in enumerate(items)]
