"""What would make a GPU wait, found without one: on torch's meta device no value can be read."""

import contextlib
from pathlib import Path

import pytest
import torch

import core.train
from core import augment, loss
from core.augment import TRANSFORMS
from core.device import send
from core.rundir import RunDirectory
from core.train import Training


@pytest.fixture
def meta(monkeypatch) -> str:
    monkeypatch.setattr(core.train, "pick_device", lambda _name: "meta")
    monkeypatch.setitem(augment.CHUNK_BYTES, "meta", augment.CHUNK_BYTES["cuda"])
    monkeypatch.setitem(loss.CHUNK_BYTES, "meta", loss.CHUNK_BYTES["cuda"])
    # Meta has neither autocast nor a generator.
    monkeypatch.setattr(torch, "autocast", lambda *_arguments, **_settings: contextlib.nullcontext())
    monkeypatch.setattr(torch, "Generator", lambda *_arguments: torch.default_generator)
    return "meta"


@pytest.mark.parametrize(
    "changes",
    [
        {"augment.transforms": tuple(TRANSFORMS)},
        {"augment.transforms": ("crop", "color"), "data.stored_size": 40},
        {"train.objective": "supervised"},
        {"loss.name": "margin_triplet", "loss.mining": "semi_hard"},
        {"loss.name": "nt_logistic"},
        {"loss.negatives": "other_view"},
    ],
    ids=str,
)
def test_a_step_is_launched_without_reading_a_value_from_the_device(tmp_path: Path, tiny, meta: str, changes: dict):
    config = tiny({"optimizer.name": "lars", **changes})  # torch's fused optimizers refuse the meta device
    training = Training(config, RunDirectory.create(tmp_path, config))
    for step in range(2):
        x_NCHW = training.pictures.batch(training.indices(step)).to(meta)
        assert training.step(x_NCHW, step).device.type == meta
    training.close()


def test_what_is_sent_to_the_same_device_stays_as_it_is():
    value_N = torch.arange(3)
    assert send(value_N, "cpu") is value_N
    assert send(value_N, torch.device("meta")).device.type == "meta"
