"""Typed configs: dataclasses with a help text and limits on each field, read from plain values.

Invariant: whatever is wrong with a value becomes one line that names key, value and what is allowed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import is_dataclass
from typing import Any, TypeVar, dataclass_transform, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from core.errors import InvalidValue, UserError, unknown_name

T = TypeVar("T")
Range = tuple[float, float]


@dataclass_transform(kw_only_default=True, frozen_default=True)
def typed(kind: type[T]) -> type[T]:
    """Make a class of annotated fields a validated, frozen dataclass that refuses unknown keys."""
    return dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", allow_inf_nan=False))(kind)  # type: ignore[return-value]


def help_text(text: str, **limits: Any) -> Any:
    return Field(description=text, **limits)


def invalid(key: str, value: object, allowed: str) -> PydanticCustomError:
    """For checks that no single field can make; `_explain` turns it into the user's line."""
    return PydanticCustomError("invalid", "{allowed}", {"key": key, "value": value, "allowed": allowed})


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested mappings as (dotted key, value); lists are leaves."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return tree


def as_dict(config: Any) -> dict[str, Any]:
    """A typed config as nested plain values, as written to config.yaml."""
    return _adapter(type(config)).dump_python(config, mode="json")


def parse(kind: type, tree: Mapping[str, Any], prefix: str = "") -> Any:
    """Plain nested values to the typed config `kind`.

    Raises: UserError naming the key, the value and what is allowed.
    """
    parsed = validate(kind, tree, prefix)
    for key, value in flatten(tree):
        if isinstance(value, bool) or (isinstance(value, list | tuple) and any(isinstance(one, bool) for one in value)):
            found = parsed
            for part in key.split("."):
                found = found.get(part) if isinstance(found, Mapping) else getattr(found, part, None)
            numbers = found if isinstance(found, list | tuple) else [found]
            # pydantic takes true and false for 1 and 0.
            if any(isinstance(one, int | float) and not isinstance(one, bool) for one in numbers):
                raise InvalidValue(prefix + key, value, "input should be a number")
    return parsed


def validate(kind: type, tree: Mapping[str, Any], prefix: str = "") -> Any:
    """`parse` but for true and false, which count as numbers here: enough for values and parts that were parsed before.

    Raises: as `parse`.
    """
    try:
        return _adapter(kind).validate_python(tree)
    except ValidationError as error:
        raise _explain(kind, error, prefix) from None


def key_names(kind: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted key of the typed config `kind`."""
    for name, hint in get_type_hints(kind).items():
        if is_dataclass(hint):
            yield from key_names(hint, f"{prefix}{name}.")
        else:
            yield prefix + name


def known_keys(kind: type) -> dict[str, Any]:
    """Every dotted key of `kind` with its default."""
    return dict(flatten(as_dict(kind())))


_adapters: dict[type, TypeAdapter] = {}


def _adapter(kind: type) -> TypeAdapter:
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind)
    return _adapters[kind]


def _explain(kind: type, error: ValidationError, prefix: str) -> UserError:
    first = error.errors()[0]
    # Where several types are allowed, pydantic adds the one that it tried last.
    named = [str(part) for part in first["loc"] if str(part) not in ("int", "float", "str") and "[" not in str(part)]
    key = prefix + ".".join(named)
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return unknown_name("key", key, key_names(kind, prefix))
    if first["type"] == "invalid":
        return InvalidValue(**first["ctx"])
    if first["type"].startswith("missing"):
        return UserError(f"{key} is missing")
    said = first["msg"].replace(" after validation", "").replace("tuple", "list").replace("Tuple", "list")
    return InvalidValue(key, first["input"], said[0].lower() + said[1:])
