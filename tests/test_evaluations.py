"""The configs of evaluations: their defaults are the paper's, and they say truly what they measure."""

from pathlib import Path

import pytest
import yaml

from core.config import known_keys
from core.errors import UserError
from core.evaluations import (
    EVALUATIONS,
    METRICS,
    FinetuneConfig,
    LinearConfig,
    TransferConfig,
    TransferName,
    evaluation_config,
)

PAPER = yaml.safe_load((Path(__file__).parent.parent / "ablations" / "paper" / "simclr.yaml").read_text())


def test_linear_evaluation_and_fine_tuning_are_the_papers_by_default():
    linear, of_paper = LinearConfig(), PAPER["linear_evaluation"]
    assert linear.protocol == "sgd"
    assert linear.base_lr * linear.batch_size / 256 == of_paper["lr"] == 1.6
    assert (linear.batch_size, linear.epochs) == (of_paper["batch_size"], of_paper["epochs"]) == (4096, 90)
    finetune, of_paper = FinetuneConfig(), PAPER["fine_tuning_semi_supervised"]
    assert finetune.base_lr * finetune.batch_size / 256 == of_paper["lr"] == 0.8
    assert finetune.batch_size == of_paper["batch_size"]
    assert (finetune.labels, finetune.epochs) == (0.01, of_paper["epochs"]["1%"])


def test_transfer_is_the_papers_by_default():
    transfer, of_paper = TransferConfig(), PAPER["transfer_protocol_B8"]
    assert (transfer.steps, transfer.batch_size) == (of_paper["finetune"]["steps"], of_paper["finetune"]["batch"])
    assert transfer.scratch_steps == of_paper["random_init"]["steps"]
    assert (transfer.l2_values, transfer.l2) == (45, (1e-6, 1e5))
    assert (transfer.lr_values, transfer.lr, transfer.scratch_lr) == (7, (1e-4, 0.1), (1e-3, 1.0))
    assert (transfer.weight_decay, transfer.scratch_weight_decay) == ((1e-6, 1e-3), (1e-5, 10**-1.5))
    assert transfer.weight_decay_values == 8  # seven and none; from scratch eight
    assert len(TransferName.__args__) == len(PAPER["table8"]["cols"]) == 12


@pytest.mark.parametrize("kind", EVALUATIONS)
def test_metrics_and_keys_without_effect_are_known(kind):
    config = EVALUATIONS[kind]()
    assert set(config.metrics()) <= set(METRICS[kind])
    assert config.without_effect() <= set(known_keys(EVALUATIONS[kind]))


def test_each_protocol_reads_its_own_keys():
    for kind in ("linear", "transfer"):
        protocols = ("sgd", "lbfgs") if kind == "linear" else ("linear", "finetune")
        idle = [evaluation_config({"kind": kind, "protocol": protocol})[1].without_effect() for protocol in protocols]
        assert not (idle[0] & idle[1]) - {"procedural_size"}
    assert "procedural_size" not in TransferConfig(source="procedural").without_effect()


def test_validation_accuracy_is_measured_where_a_share_is_set():
    assert LinearConfig().metrics() == ("top1", "top5")
    assert LinearConfig(validation=0.1).metrics() == ("top1", "top5", "validation_top1")


@pytest.mark.parametrize(
    ("tree", "line"),
    [
        ({"kind": "transfer", "dataset": "foods"}, "evaluate.x.dataset=foods: input should be 'food'"),
        ({"kind": "transfer", "lr": [0.1, 0.01]}, "evaluate.transfer.lr=[0.1, 0.01]: two numbers, 0 < low <= high"),
        ({"kind": "finetune", "labels": 0}, "evaluate.x.labels=0: input should be greater than 0"),
        ({"kind": "probe", "tasks": "noise"}, "unknown key 'evaluate.x.tasks': did you mean 'evaluate.x.task'?"),
    ],
)
def test_wrong_settings_are_one_line(tree, line):
    with pytest.raises(UserError) as caught:
        evaluation_config(tree, "evaluate.x.")
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
