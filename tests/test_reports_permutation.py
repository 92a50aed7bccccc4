"""The paired permutation test: against brute force, its error rate where nothing is true, and bold face in tables."""

import json
from itertools import product

import numpy as np
import pytest

from reports import permutation, tables
from reports.build import load
from reports.permutation import p_of_top1, p_value
from tests.invented import invent, study_grid


def top1(correct: str, measure: str = "top1", labels: list[int] | None = None) -> dict:
    return {"measure": measure, "correct": correct, "labels": labels or [0] * len(correct)}


def brute_force(difference_N: np.ndarray) -> float:
    """The share of all exchanges with at least as large a difference."""
    seen = abs(difference_N.sum())
    found = [abs(np.dot(signs, difference_N)) for signs in product([-1, 1], repeat=len(difference_N))]
    return float(np.mean(np.array(found) >= seen - 1e-12))


@pytest.mark.parametrize("seed", range(5))
def test_top1_is_the_share_of_all_exchanges(seed):
    difference_N = np.random.default_rng(seed).integers(-1, 2, 9)
    assert p_of_top1(difference_N) == pytest.approx(brute_force(difference_N))


def test_mean_per_class_is_the_share_of_all_exchanges():
    labels = [0, 0, 0, 0, 1, 1, 2, 2, 2, 2]
    first, second = top1("1111101111", "mean_per_class", labels), top1("0001111001", "mean_per_class", labels)
    counts = np.array([4, 4, 4, 4, 2, 2, 4, 4, 4, 4])
    difference_N = np.array([1, 1, 1, 0, 0, -1, 0, 1, 1, 0]) / counts
    assert p_value([(first, second)]) == pytest.approx(brute_force(difference_N), abs=0.02)


def test_ranking_finds_a_difference_and_no_difference():
    random = np.random.default_rng(0)
    present_NC = random.integers(0, 2, (60, 3))
    present = ["".join(map(str, row)) for row in present_NC.tolist()]

    def scored(noise: float) -> dict:
        scores_NC = present_NC + noise * random.normal(size=present_NC.shape)
        return {"measure": "map", "present": present, "scores": (100 * scores_NC).tolist()}

    good, bad = scored(0.3), scored(5.0)
    assert p_value([(good, bad)]) < 0.01
    assert p_value([(good, good)]) == 1
    assert p_value([(good, bad)]) == p_value([(good, bad)])


def test_more_seeds_are_no_more_pictures():
    """Twenty pictures that only one model tells right and ten that only the other does, again and again."""
    first, second = top1("1" * 20 + "0" * 10), top1("0" * 20 + "1" * 10)
    once = p_value([(first, second)])
    assert once == pytest.approx(0.0987, abs=1e-3)
    assert p_value([(first, second)] * 5) == pytest.approx(once, abs=0.02)


def test_equal_models_differ_as_often_as_the_level_allows():
    random = np.random.default_rng(1)
    found = [p_of_top1(random.integers(0, 2, 400) - random.integers(0, 2, 400)) for _ in range(400)]
    assert np.mean(np.array(found) < permutation.ALPHA) < 0.08


def test_a_model_is_as_good_as_itself():
    assert p_value([(top1("0101"), top1("0101"))]) == 1


def test_other_pictures_are_refused():
    with pytest.raises(ValueError, match="same pictures"):
        p_value([(top1("01", labels=[0, 1]), top1("01", labels=[1, 0]))])


STUDY = {
    "axes": {"train.epochs": [100, 200, 400]},
    "labels": {"train.epochs": "epochs"},
    "evaluations": {"transfer": {"dataset": "food"}},
    "metric": "transfer.score",
    "report": {"kind": "table", "rows": "train.epochs", "bold": "train.epochs"},
}
CORRECT = {100: "1" * 50 + "0" * 50, 200: "1" * 90 + "0" * 10, 400: "1" * 92 + "0" * 8}


def test_the_table_has_bold_what_is_as_good_as_the_best(tmp_path):
    grid = study_grid(tmp_path, STUDY, "seeds=2")
    invent(grid, lambda values, metric, seed: float(CORRECT[values["train.epochs"]].count("1")))
    for cell in grid.cells:
        invent_data(grid, cell)
    frame = tables.printed(load(grid.request.report_dir).shown)
    texts = frame.iloc[:, 1].tolist()
    assert [isinstance(text, tables.Bold) for text in texts] == [False, True, True]
    assert "| 100 | 50.0 [50.0, 50.0] |\n| 200 | **90.0 [90.0, 90.0]** |" in tables.markdown(frame)
    assert r"200 & \textbf{90.0 [90.0, 90.0]} \\" in tables.latex(frame)
    assert tables.markdown(frame).count("**") == 4


def test_without_predictions_only_the_best_is_bold(tmp_path):
    grid = study_grid(tmp_path, STUDY, "seeds=2")
    invent(grid, lambda values, metric, seed: float(CORRECT[values["train.epochs"]].count("1")))
    texts = tables.printed(load(grid.request.report_dir).shown).iloc[:, 1].tolist()
    assert [isinstance(text, tables.Bold) for text in texts] == [False, False, True]


def invent_data(grid, cell) -> None:
    """Put predictions into the records of a cell's evaluations."""
    data = top1(CORRECT[cell.values["train.epochs"]])
    for run in cell.runs:
        file = grid.request.runs / run.id / "evaluations" / f"{run.evaluation_ids['transfer']}.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "data": data}))
