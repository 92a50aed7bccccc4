"""What would make a GPU wait, found without one: on torch's meta device no value can be read, and copies are seen."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import core.train
from core import augment, loss
from core.augment import TRANSFORMS, autoaugment, color, draws, filters, geometry
from core.device import send
from core.rundir import RunDirectory
from core.train import Training


class Copies(TorchDispatchMode):
    """Notes the copies from the CPU to the meta device, except those that `send` makes."""

    def __init__(self):
        super().__init__()
        self.unsent: list[str] = []

    def __torch_dispatch__(self, operation: Any, types: Any, arguments: Any = (), settings: Any = None) -> Any:
        result = operation(*arguments, **(settings or {}))
        tensors = [one for one in arguments if isinstance(one, torch.Tensor)]
        if isinstance(result, torch.Tensor) and result.is_meta and any(one.is_cpu and one.ndim for one in tensors):
            self.unsent.append(str(operation))
        return result

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        before = list(self.unsent)
        yield
        self.unsent = before


@pytest.fixture
def copies(monkeypatch) -> Copies:
    monkeypatch.setattr(core.train, "pick_device", lambda _name: "meta")
    monkeypatch.setitem(augment.CHUNK_BYTES, "meta", augment.CHUNK_BYTES["cuda"])
    monkeypatch.setitem(loss.CHUNK_BYTES, "meta", loss.CHUNK_BYTES["cuda"])
    # Meta has neither autocast nor a generator.
    monkeypatch.setattr(torch, "autocast", lambda *_arguments, **_settings: contextlib.nullcontext())
    monkeypatch.setattr(torch, "Generator", lambda *_arguments: torch.default_generator)
    found, tensor = Copies(), torch.tensor

    def made(values: Any, **settings: Any) -> torch.Tensor:
        """A copy that torch's dispatcher does not see."""
        if torch.device(settings.get("device") or "cpu").type == "meta":
            found.unsent.append("tensor")
        return tensor(values, **settings)

    monkeypatch.setattr(torch, "tensor", made)

    def noted(value: torch.Tensor, device: Any) -> torch.Tensor:
        with found.sending():
            return send(value, device)

    for module in (core.train, autoaugment, color, draws, filters, geometry):
        monkeypatch.setattr(module, "send", noted)
    return found


def made_steps(training: Training, copies: Copies) -> None:
    for step in range(2):
        x_NCHW = training.pictures.batch(training.indices(step)).to("meta")
        with copies:
            assert training.step(x_NCHW, step).device.type == "meta"
    training.close()


@pytest.mark.parametrize(
    "changes",
    [
        {"augment.transforms": tuple(name for name in TRANSFORMS if name != "autoaugment")},
        {"augment.transforms": ("crop", "color"), "data.stored_size": 40},
        {"train.objective": "supervised"},
        {"loss.name": "margin_triplet", "loss.mining": "semi_hard"},
        {"loss.name": "nt_logistic"},
        {"loss.negatives": "other_view"},
    ],
    ids=str,
)
def test_a_step_is_launched_without_waiting_for_the_device(tmp_path: Path, tiny, copies: Copies, changes: dict):
    config = tiny({"optimizer.name": "lars", **changes})  # torch's fused optimizers refuse the meta device
    made_steps(Training(config, RunDirectory.create(tmp_path, config)), copies)
    assert copies.unsent == []


def test_autoaugment_waits_for_copies_that_torchvision_makes(tmp_path: Path, tiny, copies: Copies):
    """Its rotations and shears make a matrix each on the device."""
    config = tiny({"optimizer.name": "lars", "augment.transforms": ("autoaugment",)})
    made_steps(Training(config, RunDirectory.create(tmp_path, config)), copies)
    assert set(copies.unsent) == {"tensor"}


def test_copies_that_are_not_sent_are_seen(copies: Copies):
    with copies:
        torch.ones(3).to("meta")
        torch.ones(3, device="meta").copy_(torch.ones(3))
    assert copies.unsent == ["aten._to_copy.default", "aten.copy_.default"]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_goes_to_a_gpu_is_pinned_and_not_waited_for(monkeypatch, device: str):
    asked = []

    def noted(name: str) -> Callable[..., torch.Tensor]:
        def call(value: torch.Tensor, *arguments: Any, **settings: Any) -> torch.Tensor:
            asked.append((name, *arguments, settings))
            return value

        return call

    value_N = torch.arange(3)
    monkeypatch.setattr(torch.Tensor, "pin_memory", noted("pin"))
    monkeypatch.setattr(torch.Tensor, "to", noted("to"))
    assert send(value_N, device) is value_N
    copied = ("to", torch.device(device))
    assert asked == ([(*copied, {})] if device == "cpu" else [("pin", {}), (*copied, {"non_blocking": True})])
