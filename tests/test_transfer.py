import json

import numpy as np
import pytest
import torch

from core import transfer
from core.config import DataConfig, EncoderConfig, RunConfig
from core.data.pictures import CachedPictures
from core.data.transfer import FACTS, TransferSet
from core.encoder import build_encoder
from core.errors import Cause, RunFailed
from core.evaluate import Evaluator
from core.evaluations import TransferConfig
from core.measures import mean_average_precision, mean_per_class

_TINY = {"source": "procedural", "procedural_size": 100, "l2_values": 3, "steps": 4, "batch_size": 32}


def _subject(tmp_path, epochs: int = 1, **data) -> Evaluator:
    torch.manual_seed(0)
    run = RunConfig(
        data=DataConfig(image_size=16, stored_size=16, cache_dir=str(tmp_path), **data),
        encoder=EncoderConfig(depth=10, width=0.25, stem="cifar"),
        train={"epochs": epochs},  # type: ignore[arg-type]
    )
    unused = CachedPictures(np.zeros((4, 16, 16, 3), np.uint8), np.array([0, 1, 0, 1]), ("a", "b"))
    return Evaluator(build_encoder(run.encoder), run, unused, unused, "cpu")


@pytest.mark.parametrize("protocol", ["linear", "finetune"])
@pytest.mark.parametrize("name", ["pets", "voc2007"])
def test_the_stored_predictions_give_the_score(name, protocol, tmp_path):
    config = TransferConfig(dataset=name, protocol=protocol, lr_values=1, weight_decay_values=1, **_TINY)
    measured = _subject(tmp_path).run("transfer", config)
    data = json.loads(json.dumps(measured.data, allow_nan=False))
    assert data["measure"] == FACTS[name].measure
    assert data["source"] == "procedural"
    assert measured.count == data["pictures"]["test"] == 50
    assert sum(data["pictures"].values()) == 150
    if name == "voc2007":
        present_NC = np.array([[int(mark) for mark in row] for row in data["present"]])
        again = mean_average_precision(np.array(data["scores"]), present_NC)
    else:
        again = mean_per_class(np.array([int(mark) for mark in data["correct"]]), np.array(data["labels"]))
    assert measured.metrics["score"] == pytest.approx(again, abs=0.5 if name == "voc2007" else 1e-9)


def test_deterministic(tmp_path):
    config = TransferConfig(protocol="finetune", lr_values=2, weight_decay_values=1, **_TINY)
    first, again = (_subject(tmp_path).run("transfer", config) for _ in range(2))
    assert first == again


def _planted(monkeypatch, wrong_test: bool = False) -> TransferSet:
    """Pixels that are their class; with `wrong_test`, the labels of the test pictures are shifted."""
    random = np.random.default_rng(0)
    labels_N = np.arange(150) % 3
    pixels_NHWC = random.integers(0, 40, (150, 16, 16, 3), dtype=np.uint8)
    pixels_NHWC[np.arange(150), :, :, labels_N] += 200
    targets = labels_N.copy()
    if wrong_test:
        targets[100:] = (targets[100:] + 1) % 3
    rows = np.arange(150)
    pictures = CachedPictures(pixels_NHWC, labels_N, ("r", "g", "b"))
    planted = TransferSet(pictures, targets, ("r", "g", "b"), rows[:60], rows[60:100], rows[100:])
    monkeypatch.setattr("core.data.transfer.load", lambda *_: planted)
    return planted


@pytest.mark.parametrize("protocol", ["linear", "finetune"])
def test_settings_are_chosen_by_validation_and_test_pictures_are_only_looked_at(protocol, tmp_path, monkeypatch):
    config = TransferConfig(
        protocol=protocol, l2_values=5, batch_size=16, steps=30, lr=(1e-3, 0.05), lr_values=2, weight_decay_values=1
    )
    _planted(monkeypatch, wrong_test=True)
    misled = _subject(tmp_path).run("transfer", config)
    _planted(monkeypatch)
    measured = _subject(tmp_path).run("transfer", config)
    assert misled.data["chosen"] == measured.data["chosen"]
    assert measured.metrics["score"] > 95 > 10 > misled.metrics["score"]
    if protocol == "finetune":
        assert measured.data["pictures"] == {"train": 60, "validation": 40, "test": 50}


def test_what_diverges_is_not_chosen(tmp_path, monkeypatch):
    _planted(monkeypatch)
    settings = {"protocol": "finetune", "batch_size": 16, "steps": 10, "lr_values": 2, "weight_decay_values": 1}
    measured = _subject(tmp_path).run("transfer", TransferConfig(lr=(0.02, 1e30), **settings))
    assert measured.data["chosen"]["lr"] == pytest.approx(0.02)
    with pytest.raises(RunFailed) as caught:
        _subject(tmp_path).run("transfer", TransferConfig(lr=(1e30, 1e31), **settings))
    assert caught.value.cause == Cause.DIVERGED


def test_the_grids_are_the_papers(tmp_path):
    config = TransferConfig()
    tries = list(transfer._tries(scratch=False, config=config))
    rates, decays = {lr for lr, _ in tries}, {round(lr * decay, 12) for lr, decay in tries}
    assert (len(rates), len(decays), len(tries)) == (7, 8, 56)
    assert (min(rates), max(rates)) == (pytest.approx(1e-4), pytest.approx(0.1))
    assert (min(decays), max(decays)) == (0, pytest.approx(1e-3))
    assert sorted(decays)[1] == pytest.approx(1e-6)
    scratch = list(transfer._tries(scratch=True, config=config))
    assert len(scratch) == 56
    assert {lr for lr, _ in scratch} == set(transfer.log_spaced(1e-3, 1.0, 7))
    assert min(lr * decay for lr, decay in scratch) == pytest.approx(1e-5)
    penalties = transfer.log_spaced(*config.l2, config.l2_values)
    assert (len(penalties), penalties[0], penalties[-1]) == (45, pytest.approx(1e-6), pytest.approx(1e5))


def test_an_untrained_run_takes_its_own_number_of_steps(tmp_path, monkeypatch):
    steps = []

    def tune(subject, pictures, rows_N, targets, classes, tuning):
        steps.append(tuning.steps)
        raise RunFailed(Cause.DIVERGED, "")

    monkeypatch.setattr(transfer, "fine_tune", tune)
    config = TransferConfig(protocol="finetune", scratch_steps=7, **_TINY)
    for epochs in (0, 1):
        with pytest.raises(RunFailed):
            _subject(tmp_path, epochs).run("transfer", config)
    assert set(steps[:56]) == {7}
    assert set(steps[56:]) == {4}


def test_batch_norm_momentum_of_the_paper(tmp_path, monkeypatch):
    """max(1 - 10/s, 0.9) of the old statistics stay; torch counts what is new."""
    seen = []

    def tune(subject, pictures, rows_N, targets, classes, tuning):
        seen.append(tuning.batch_norm_momentum)
        raise RunFailed(Cause.DIVERGED, "")

    monkeypatch.setattr(transfer, "fine_tune", tune)
    _planted(monkeypatch)
    for batch_size in (2, 60):
        config = TransferConfig(protocol="finetune", batch_size=batch_size)
        with pytest.raises(RunFailed):
            _subject(tmp_path).run("transfer", config)
    assert seen[0] == pytest.approx(0.1)
    assert seen[-1] == pytest.approx(0.1)
    assert 1 - max(1 - 10 / 400, 0.9) == pytest.approx(10 / 400)
