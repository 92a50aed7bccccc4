"""Claims as a study file writes them: {id, sentence, section, kind, check}, typed and checked against the study.

Apart from claims.py, which decides them, so that a plan can check a study file without pandas and scipy.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, NamedTuple

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass as typed_dataclass

from core.errors import InvalidValue
from reports.checks import FORMS, AbovePublished, All, Axes, Form, GapShrinks, Monotone, Needed
from reports.manifest import plain
from reports.selections import Selection, as_list, select, validate_selection
from reports.written import one_of, typed, typed_by

Kind = Literal["paper", "reading"]


@dataclass(frozen=True)
class Claim:
    """One sentence with its check: of the paper itself, or a common reading of it."""

    id: str
    sentence: str
    section: str
    kind: Kind
    check: Any


class Part(NamedTuple):
    """A check that looks at cells, and all the cells it needs; a claim holds where all its parts do."""

    form: Form
    needed: list[Needed]


def parts(check: Any, axes: Axes, metric: str = "") -> Iterator[Part]:
    """The parts of a check: those of `all`, each at every value that `at_each` names.

    metric: of what encloses the check; "" is the study's.
    """
    metric = check.metric or metric
    for fixed in _combinations(check.at_each, axes):
        if isinstance(check, All):
            inner = [part for inside in check.checks for part in parts(inside, axes, metric)]
        else:
            inner = [Part(check, check.selections())]
        for form, needed in inner:
            yield Part(form, [Needed({**cells, **fixed}, own or metric, printed) for cells, own, printed in needed])


def metrics_of(check: Any) -> Iterator[str]:
    """The metrics that a check names."""
    if check.metric:
        yield check.metric
    if isinstance(check, All):
        for inside in check.checks:
            yield from metrics_of(inside)
    else:
        yield from (needed.metric for needed in check.selections() if needed.metric)


def _combinations(at_each: Selection, axes: Axes) -> Iterator[Selection]:
    values = [axes[key] if wanted == "*" else as_list(wanted) for key, wanted in at_each.items()]
    for combination in product(*values):
        yield dict(zip(at_each, combination, strict=True))


def check_claims(
    claims: Sequence[Mapping[str, Any]],
    points: Sequence[Mapping[str, Any]],
    axes: Axes,
    metrics: Collection[str],
    methods: Collection[str] = (),
    is_printed: bool = True,
) -> None:
    """Validate claims as in a study's YAML against its places {axis key: value}, axes, metrics and other methods.

    is_printed: whether the paper's numbers of some cells are given.
    Raises: UserError.
    """
    for number, claim in enumerate(parse_claims(claims)):
        where = f"claims.{number}.check"
        _validate(claim.check, axes, metrics, methods, where)
        for form, all_needed in parts(claim.check, axes):
            along = getattr(form, "along", "")
            for needed in all_needed:
                found = [points[row] for row in select(points, needed.cells)]
                if not found:
                    raise InvalidValue(where, needed.cells, "the study has no such cell")
                if along and len({plain(point[along]) for point in found}) < 2:
                    raise InvalidValue(where, needed.cells, f"cells at two values of {along} at least")
                if needed.printed and not is_printed:
                    allowed = "a study with numbers of the paper, see `paper.numbers`"
                    raise InvalidValue(f"{where}.form", "correlation", allowed)


def parse_claims(trees: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """Claims as written in YAML, typed. Raises: UserError naming the key and what is allowed."""
    claims: dict[str, Claim] = {}
    for number, tree in enumerate(trees):
        where = f"claims.{number}"
        written = typed(_Written, tree, where)
        if written.id in claims:
            raise InvalidValue(f"{where}.id", written.id, "every claim of a study has an id of its own")
        check = parse_check(written.check, f"{where}.check")
        claims[written.id] = Claim(written.id, written.sentence, written.section, written.kind, check)
    return list(claims.values())


def parse_check(tree: Any, where: str) -> Any:
    """A check as written in YAML, typed: one of `FORMS`. Raises: UserError."""
    if isinstance(tree, Mapping) and tree.get("form") == "all" and isinstance(tree.get("checks"), list):
        inner = [parse_check(inside, f"{where}.checks.{number}") for number, inside in enumerate(tree["checks"])]
        tree = {**tree, "checks": inner}
    return typed_by("form", FORMS, tree, where)


def _validate(
    check: Any,
    axes: Axes,
    metrics: Collection[str],
    methods: Collection[str],
    where: str,
    fixed: Collection[str] = (),
) -> None:
    """Raises: UserError if the check names a metric, an axis, a value or a method that the study does not have.

    fixed: axes of which an enclosing check takes each value by itself.
    """
    validate_selection(check.at_each, axes, f"{where}.at_each")
    if check.metric:
        one_of(f"{where}.metric", check.metric, metrics)
    if isinstance(check, All):
        if not check.checks:
            raise InvalidValue(f"{where}.checks", "[]", "at least one check")
        for number, inside in enumerate(check.checks):
            _validate(inside, axes, metrics, methods, f"{where}.checks.{number}", {*fixed, *check.at_each})
        return
    if isinstance(check, Monotone | GapShrinks):
        one_of(f"{where}.along", check.along, axes)
        if len(axes[check.along]) < 2:
            raise InvalidValue(f"{where}.along", check.along, "an axis with at least two values")
    if isinstance(check, AbovePublished):
        if not methods:
            raise InvalidValue(f"{where}.form", check.form, "a study with published rows, see `paper.others`")
        for method in check.methods:
            one_of(f"{where}.methods", method, methods)
    for cells, metric, _ in check.selections():
        validate_selection(cells, axes, where)
        if metric:
            one_of(f"{where}.metric", metric, metrics)
        for key in (*fixed, *check.at_each):
            if key in cells or key == getattr(check, "along", None):
                raise InvalidValue(f"{where}.at_each", key, "an axis that the check does not name otherwise")


@typed_dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class _Written:
    id: str
    sentence: str
    section: str
    check: Any
    kind: Kind = "paper"
