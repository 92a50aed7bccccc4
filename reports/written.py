"""Parts of a study file that the report reads, made typed; a mistake becomes one line for the user."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from pydantic import TypeAdapter, ValidationError

from core.errors import InvalidValue, UserError, unknown_name


def typed(kind: type, tree: Any, where: str) -> Any:
    """Plain values as the typed dataclass `kind`. Raises: UserError naming the key and what is allowed."""
    try:
        return TypeAdapter(kind).validate_python(dict(tree) if isinstance(tree, Mapping) else tree)
    except ValidationError as error:
        raise _explain(kind, error, where) from None


def typed_by(key: str, kinds: Mapping[str, type], tree: Any, where: str) -> Any:
    """The same, of the kind that the mapping names under `key`. Raises: UserError."""
    if not isinstance(tree, Mapping) or not isinstance(tree.get(key), str):
        raise InvalidValue(where, tree, f"a mapping with {key}: " + ", ".join(kinds))
    if tree[key] not in kinds:
        raise unknown_name(f"{where}.{key}", tree[key], kinds)
    return typed(kinds[tree[key]], tree, where)


def one_of(where: str, value: Any, known: Iterable[Any]) -> None:
    """Raises: UserError, offering the nearest, unless `value` is one of the `known` ones."""
    known = list(known)
    if value not in known:
        raise unknown_name(where, str(value), map(str, known))


def _explain(kind: type, error: ValidationError, where: str) -> UserError:
    first = error.errors()[0]
    key = ".".join([where, *map(str, first["loc"])])
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        if len(first["loc"]) > 1:
            return UserError(f"unknown key '{key}'")
        return unknown_name("key", key, [f"{where}.{field.name}" for field in fields(kind)])
    if first["type"] in ("missing", "missing_argument"):
        return UserError(f"{key}: missing")
    return InvalidValue(key, first["input"], first["msg"][0].lower() + first["msg"][1:])
