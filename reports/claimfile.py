"""Claims as a study file writes them: {id, sentence, section, check}, typed and checked against the axes.

Apart from claims.py, which decides them, so that a plan can check a study file without pandas and scipy.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as typed_dataclass

from core.errors import InvalidValue
from reports.checks import Check, explain, parse_check, validate_selection


@dataclass(frozen=True)
class Claim:
    """One sentence of the paper with its check."""

    id: str
    sentence: str
    section: str
    check: Check


def check_claims(study: Mapping[str, Any]) -> None:
    """Validate a study's `claims`, as in its YAML, against its `axes` {key: values}. Raises: UserError."""
    for number, claim in enumerate(parse_claims(study.get("claims") or [])):
        for selection in claim.check.selections():
            validate_selection(selection, study["axes"], f"claims.{number}.check")


def parse_claims(trees: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """Claims as written in YAML, typed. Raises: UserError naming the key and what is allowed."""
    claims: dict[str, Claim] = {}
    for number, tree in enumerate(trees):
        where = f"claims.{number}"
        try:
            written = _adapter.validate_python(tree)
        except ValidationError as error:
            raise explain(error, where) from None
        if written.id in claims:
            raise InvalidValue(f"{where}.id", written.id, "every claim of a study has an id of its own")
        check = parse_check(written.check, f"{where}.check")
        claims[written.id] = Claim(written.id, written.sentence, written.section, check)
    return list(claims.values())


@typed_dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class _Written:
    id: str
    sentence: str
    section: str
    check: Any


_adapter = TypeAdapter(_Written)
