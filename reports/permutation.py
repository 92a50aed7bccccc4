"""Which models are as good as the best: the paired permutation test behind the bold face of Table 8 (App. B.8).

Under the null hypothesis two models' predictions for a picture may be exchanged; p is the share of exchanges with a
difference of the scores at least as large as the one seen; a ranking is tested seed by seed, and the largest p counts.
Predictions are those that transfer evaluations keep (core/transfer.py). The same predictions give the same p.

Legend: N test pictures, C classes, R random exchanges.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from core.measures import mean_average_precision
from core.rundir import RunDirectory
from reports.collect import read_record
from reports.manifest import plain
from reports.shown import Point, Shown
from reports.spec import keys
from reports.statistics import scipy_special

ALPHA = 0.05
EXCHANGES = 10_000
RANKED_EXCHANGES = 500
"""Of models whose score ranks all pictures, which costs much more per exchange."""
_AT_ONCE = 500

Data = Mapping[str, Any]


def p_value(pairs: Sequence[tuple[Data, Data]], seed: int = 0) -> float:
    """Two-sided p of a difference between two models on the same test pictures, from their evaluations' `data`.

    pairs: of the first and the second model, one per seed. The pictures are those of every seed: with several, a
    picture's predictions are exchanged for all seeds together, so that more seeds are no more pictures.
    Raises: ValueError if the pictures or the measures differ.
    """
    (first, _), *_ = pairs
    for data in (data for pair in pairs for data in pair):
        if data["measure"] != first["measure"] or data.get("labels") != first.get("labels"):
            raise ValueError("a paired test needs the same pictures and the same measure")
    if first["measure"] == "map":
        return max(_p_of_ranking(*pair, np.random.default_rng(seed)) for pair in pairs)
    difference_N = sum(_correct(one) - _correct(other) for one, other in pairs)
    if first["measure"] == "mean_per_class":
        _, class_N, counts = np.unique(first["labels"], return_inverse=True, return_counts=True)
        return p_of_signs(difference_N / counts[class_N], np.random.default_rng(seed))
    if len(pairs) > 1:
        return p_of_signs(difference_N, np.random.default_rng(seed))
    return p_of_top1(difference_N)


def _correct(data: Data) -> np.ndarray:
    """1 for each picture that was told right, else 0."""
    return np.frombuffer(data["correct"].encode(), np.uint8).astype(int) - ord("0")


def p_of_top1(difference_N: np.ndarray) -> float:
    """Of all exchanges at once: with equal weights the difference is binomial over the pictures of one model alone."""
    only_first, only_second = int((difference_N > 0).sum()), int((difference_N < 0).sum())
    n, fewer = only_first + only_second, min(only_first, only_second)
    return min(1.0, 2 * float(scipy_special().bdtr(fewer, n, 0.5))) if n else 1.0


def p_of_signs(weighted_N: np.ndarray, random: np.random.Generator) -> float:
    """Of random exchanges: each turns the sign of a picture's weighted difference."""
    weights = weighted_N[weighted_N != 0]
    if not weights.size:
        return 1.0
    found = []
    for _ in range(EXCHANGES // _AT_ONCE):
        signs = random.integers(0, 2, (_AT_ONCE, weights.size)) * 2.0 - 1
        found.append(np.abs(signs @ weights))
    return _share(np.concatenate(found), abs(weights.sum()))


def _p_of_ranking(first: Data, second: Data, random: np.random.Generator) -> float:
    present_NC = np.array([[int(mark) for mark in row] for row in first["present"]])
    # Ranks within a model, so that exchanged scores are comparable; the measure itself depends on ranks alone.
    scores = [np.array(data["scores"]).argsort(axis=0).argsort(axis=0) for data in (first, second)]

    def difference(exchanged_N: np.ndarray) -> float:
        one = np.where(exchanged_N[:, None], scores[1], scores[0])
        other = np.where(exchanged_N[:, None], scores[0], scores[1])
        return abs(mean_average_precision(one, present_NC) - mean_average_precision(other, present_NC))

    seen = difference(np.zeros(len(present_NC), dtype=bool))
    exchanges = (random.integers(0, 2, len(present_NC)).astype(bool) for _ in range(RANKED_EXCHANGES))
    return _share(np.array([difference(exchanged_N) for exchanged_N in exchanges]), seen)


def _share(found_R: np.ndarray, seen: float) -> float:
    """The seen one counts as one of the exchanges, so that p is never 0 (Phipson & Smyth 2010)."""
    return float((1 + (found_R >= seen - 1e-12).sum()) / (1 + len(found_R)))


def as_good_as_the_best(shown: Shown) -> set[tuple[str, ...]]:
    """The values, as texts, of the points that are not significantly worse than the best along the axes `bold`."""
    along = keys(shown.spec.bold)
    groups: dict[tuple[str, ...], list[Point]] = {}
    for point in shown.points:
        if point.is_there:
            others = tuple(plain(value) for key, value in point.values.items() if key not in along)
            groups.setdefault((point.metric, *others), []).append(point)
    found: set[tuple[str, ...]] = set()
    for group in groups.values():
        best = max(group, key=lambda point: point.interval.mean)
        for point in group if len(group) > 1 else []:
            if point is best or _is_as_good(shown, point, best):
                found.add(place_of(point))
    return found


def place_of(point: Point) -> tuple[str, ...]:
    return tuple(map(plain, point.values.values()))


def _is_as_good(shown: Shown, point: Point, best: Point) -> bool:
    """Over the seeds that both have; not where predictions are missing."""
    pairs = [
        (ours, theirs)
        for ours, theirs in zip(_predictions(shown, point), _predictions(shown, best), strict=True)
        if ours is not None and theirs is not None
    ]
    return bool(pairs) and p_value(pairs) >= ALPHA


def _predictions(shown: Shown, point: Point) -> list[Data | None]:
    """The `data` of a point's evaluation per seed; None where there is none."""
    name = point.metric.partition(".")[0]
    (row, *_) = shown.rows[point.cell]
    found = []
    for run in shown.manifest.cells[row].runs:
        identity = run.evaluations.get(name)
        record = identity and read_record(RunDirectory(shown.manifest.runs_folder, run.run).evaluation_file(identity))
        found.append(record.get("data") if record else None)
    return found
