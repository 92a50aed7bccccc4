"""Table 2: the printed gradients are those of the losses that train, and weigh negatives as the paper says."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from core.config import LossConfig, RunConfig
from core.evaluations import LossGradientsConfig
from core.loss_gradients import FORMULAS, autograd_difference, evaluate, kind_of, table

ROOT = Path(__file__).parent.parent
every_loss = pytest.mark.parametrize("name", FORMULAS)


@every_loss
@pytest.mark.parametrize("temperature", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("margin", [0.0, 0.4, 1.6])
def test_the_printed_gradient_is_that_of_the_code_that_trains(name, temperature, margin):
    assert autograd_difference(name, LossConfig(temperature=temperature, margin=margin)) < 1e-12


@every_loss
def test_another_gradient_would_be_noticed(name, monkeypatch):
    right = FORMULAS[name]
    changed = LossConfig(temperature=0.21, margin=0.5)
    wrong = replace(right, gradient_of=lambda config, *vectors: right.gradient_of(changed, *vectors))
    monkeypatch.setitem(FORMULAS, name, wrong)
    assert autograd_difference(name, LossConfig(temperature=0.2, margin=0.4)) > 1e-3


@every_loss
def test_weights_are_the_coefficients_of_the_negatives_in_the_gradient(name):
    """By orthogonal vectors: the coefficient of a negative is the gradient's part along it."""
    config = LossConfig(temperature=0.3, margin=0.25)
    positive, similarity_M = 0.5, torch.tensor([0.5, -0.4, 0.2, 0.3, 0.6], dtype=torch.float64)
    # The anchor has the wanted cosines to orthogonal v and w, and is not of length 1, which no formula asks for.
    axes = torch.eye(6, dtype=torch.float64)
    u_D = torch.cat([torch.tensor([positive], dtype=torch.float64), similarity_M])
    gradient_D = FORMULAS[name].gradient_of(config, u_D, axes[0], axes[1:])
    coefficient_M = -gradient_D[1:]
    expected_M = coefficient_M / coefficient_M[0]
    torch.testing.assert_close(FORMULAS[name].weights(config, positive, similarity_M), expected_M)


def test_only_nt_xent_weighs_hard_negatives_by_how_hard_they_are():
    weights = {row["name"]: row["weights"] for row in table()["losses"]}
    assert weights["nt_xent"]["hard"] > 10 * weights["nt_logistic"]["hard"]
    assert weights["nt_logistic"]["hard"] == pytest.approx(1, abs=0.02)
    assert weights["margin_triplet"] == {"easy": 0, "semi_hard": 1, "hard": 1}


def test_the_formulas_are_those_of_the_paper():
    paper = yaml.safe_load((ROOT / "ablations" / "paper" / "simclr.yaml").read_text())["table2"]
    for formula in FORMULAS.values():
        printed = paper[formula.title.replace(" ", "_")]
        assert printed == {"negative_loss": formula.negative_loss, "gradient_u": formula.gradient}


def test_kinds_of_negatives():
    assert [kind_of(s, 0.5, 0.8) for s in (0.6, 0.5, 0.49, -0.2, -0.3, -1)] == [
        *("hard", "hard", "semi_hard", "semi_hard", "easy", "easy")
    ]


def test_table_is_plain_data():
    record = table()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    for row in record["losses"]:
        assert len(row["curve"]) == len(record["similarity"]) == len(record["kind"])
        assert row["autograd_difference"] < 1e-12


def test_a_kind_without_negatives_is_left_out():
    assert "easy" not in table(margin=2.0)["losses"][0]["weights"]


def test_the_evaluation_has_every_metric_and_the_table():
    subject = SimpleNamespace(run_config=RunConfig(seed=3))
    measured = evaluate(subject, LossGradientsConfig(margin=0.4))
    assert set(measured.metrics) == set(LossGradientsConfig().metrics())
    assert measured.data == table(margin=0.4, seed=3)
    assert measured.data["losses"][0]["autograd_difference"] != table(margin=0.4)["losses"][0]["autograd_difference"]
    assert measured.metrics["semi_hard_margin_triplet"] == 1
    assert all(measured.metrics[f"difference_{name}"] < 1e-12 for name in FORMULAS)
