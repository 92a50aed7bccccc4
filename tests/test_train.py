"""Training: it learns, it resumes exactly, and it says why it failed."""

import gc
import math
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from core import checkpoint
from core.errors import Cause, RunFailed
from core.rundir import RunDirectory
from core.train import UNREAD_STEPS, Stopped, Training, compile_model, train
from tests import kill


@pytest.fixture
def undisturbed(tmp_path: Path, tiny) -> RunDirectory:
    directory = RunDirectory.create(tmp_path / "undisturbed", tiny())
    train(tiny(), directory)
    return directory


def test_training_lowers_the_loss(tmp_path: Path, tiny):
    # In the other tests' setting the loss of so small a network jumps up and down, and rounding decides where it ends.
    easy = {"augment.color_strength": 0.2, "augment.crop_area": [0.5, 1.0], "loss.temperature": 0.5}
    config = tiny({"train.epochs": 12, "optimizer.name": "adamw", "optimizer.base_lr": 0.01, **easy})
    directory = RunDirectory.create(tmp_path, config)
    train(config, directory)
    losses = [line["loss"] for line in kill.journal_of(directory) if line["event"] == "epoch"]
    assert len(losses) == 12
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize("mining", ["none", "semi_hard"])
@pytest.mark.parametrize("name", ["nt_logistic", "margin_triplet"])
def test_the_other_losses_learn_to_find_the_other_view(tmp_path: Path, tiny, name: str, mining: str):
    """By the accuracy: a mined negative is always near the positive, so the loss tells little."""
    easy = {"augment.color_strength": 0.2, "augment.crop_area": [0.5, 1.0], "optimizer.name": "adamw"}
    loss = {"loss.name": name, "loss.mining": mining, "loss.temperature": 0.2}
    config = tiny({"train.epochs": 5, "optimizer.base_lr": 0.01, **easy, **loss})
    directory = RunDirectory.create(tmp_path, config)
    train(config, directory)
    accuracies = [line["accuracy"] for line in kill.journal_of(directory) if line["event"] == "epoch"]
    assert accuracies[-1] > 2 * accuracies[0]


@pytest.mark.parametrize("objective", ["contrastive", "supervised"])
def test_the_entropy_of_the_last_epoch_is_a_result(tmp_path: Path, tiny, objective: str):
    config = tiny({"train.objective": objective, "train.epochs": 2})
    directory = RunDirectory.create(tmp_path, config)
    train(config, directory)
    entropies = [line["entropy"] for line in kill.journal_of(directory) if line["event"] == "epoch"]
    outcomes = 2 * config.train.batch_size - 1 if objective == "contrastive" else 10
    assert len(entropies) == 2
    assert all(0 < entropy < math.log(outcomes) for entropy in entropies)
    assert directory.result()["metrics"]["entropy"] == entropies[-1]


@pytest.mark.parametrize("objective", ["contrastive", "supervised"])
def test_a_run_stopped_after_any_step_ends_as_if_undisturbed(tmp_path: Path, tiny, objective: str):
    config = tiny({"train.objective": objective})
    whole = RunDirectory.create(tmp_path / "whole", config)
    train(config, whole)
    resumed = RunDirectory.create(tmp_path / "resumed", config)
    stops = 0
    while resumed.result() is None:
        steps_left = iter([False, False, True])
        try:
            train(config, resumed, lambda steps_left=steps_left: next(steps_left))
        except Stopped:
            stops += 1
    assert stops == 4
    assert kill.outcome_of(resumed) == kill.outcome_of(whole)


def test_a_damaged_checkpoint_costs_steps_but_changes_nothing(tmp_path: Path, tiny, undisturbed: RunDirectory):
    directory = RunDirectory.create(tmp_path / "damaged", tiny())
    answers = iter([False] * 12 + [True])
    with pytest.raises(Stopped):
        train(tiny(), directory, lambda: next(answers))
    whole = directory.checkpoint_file.read_bytes()
    directory.checkpoint_file.write_bytes(whole[: len(whole) // 2])
    assert checkpoint.load(directory.checkpoint_file)["progress"]["step"] == 10
    train(tiny(), directory)
    assert kill.outcome_of(directory) == kill.outcome_of(undisturbed)


def test_a_run_killed_at_random_moments_ends_as_if_undisturbed(tmp_path: Path, tiny):
    config = tiny({"train.epochs": 20, "machine.checkpoint_seconds": 0.05})
    whole, killed, moments = kill.campaign(tmp_path, config, kills=3, seed=0)
    assert len(moments) == 3
    assert kill.outcome_of(killed) == kill.outcome_of(whole)


def test_the_seed_decides_everything_random(tmp_path: Path, tiny):
    weights = []
    for number, seed in enumerate((0, 0, 1)):
        config = tiny({"seed": seed, "train.epochs": 1})
        directory = RunDirectory.create(tmp_path / str(number), config)
        train(config, directory)
        weights.append(directory.encoder_file.read_bytes())
    assert weights[0] == weights[1] != weights[2]


def test_no_epochs_leave_the_encoder_untrained(tmp_path: Path, tiny):
    config = tiny({"train.epochs": 0})
    directory = RunDirectory.create(tmp_path, config)
    encoder = train(config, directory)
    saved = safetensors.torch.load_file(directory.encoder_file)
    assert all(torch.equal(saved[name], value) for name, value in encoder.state_dict().items())
    assert directory.result()["steps"] == 0


def test_a_loss_that_is_not_finite_ends_the_run_as_diverged(tmp_path: Path, tiny):
    config = tiny({"optimizer.base_lr": 1e30, "train.warmup_epochs": 0, "head.batch_norm": False})
    with pytest.raises(RunFailed) as caught:
        train(config, RunDirectory.create(tmp_path, config))
    assert caught.value.cause == Cause.DIVERGED
    assert "step" in str(caught.value)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_the_encoder_computes_in_the_precision_asked_for(tmp_path: Path, tiny, precision: str, dtype: torch.dtype):
    config = tiny({"train.precision": precision, "train.epochs": 1})
    training = Training(config, RunDirectory.create(tmp_path, config))
    seen = set()
    training.model.encoder.conv1.register_forward_hook(lambda _module, _inputs, y_NCHW: seen.add(y_NCHW.dtype))
    training.run(lambda: False)
    training.close()
    assert seen == {dtype}
    assert training.model.encoder.conv1.weight.dtype == torch.float32
    assert math.isfinite(training.progress.loss)


def test_the_encoder_lies_in_channels_last_memory(tmp_path: Path, tiny):
    training = Training(tiny(), RunDirectory.create(tmp_path, tiny()))
    training.close()
    convolutions = [part for part in training.model.modules() if isinstance(part, torch.nn.Conv2d)]
    assert len(convolutions) > 1
    assert all(part.weight.is_contiguous(memory_format=torch.channels_last) for part in convolutions)


@pytest.mark.parametrize(
    ("late", "order"),
    [
        (0, ["fetch", *["launch", "fetch", "read"] * 4, "launch", "read"]),
        (1, ["fetch", "launch", "fetch", *["launch", "fetch", "read"] * 3, "launch", "read", "read"]),
    ],
)
def test_the_next_batch_and_step_come_before_values_are_read(tmp_path, tiny, monkeypatch, late: int, order: list[str]):
    config = tiny({"train.epochs": 1})
    training = Training(config, RunDirectory.create(tmp_path, config))
    events = []

    def noted(event: str, own: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            events.append(event)
            return own(*arguments)

        return call

    monkeypatch.setitem(UNREAD_STEPS, "cpu", late)
    monkeypatch.setattr(training.pictures, "batch", noted("fetch", training.pictures.batch))
    monkeypatch.setattr(training, "step", noted("launch", training.step))
    monkeypatch.setattr(training, "account", noted("read", training.account))
    training.run(lambda: False)
    training.close()
    assert events == order


@pytest.mark.parametrize(("seconds", "stopped_at"), [(1e9, [3, 5, 8, 10, 13]), (1e-9, [2, 4, 7, 9, 12, 14])])
def test_reading_late_changes_nothing(tmp_path, tiny, monkeypatch, undisturbed, seconds: float, stopped_at: list[int]):
    """A run that is stopped again and again, where nothing else saves or every step does, ends as if undisturbed."""
    monkeypatch.setitem(UNREAD_STEPS, "cpu", 1)
    directory = RunDirectory.create(tmp_path / "late", tiny())
    config = tiny({"machine.checkpoint_seconds": seconds})
    stops = []
    while directory.result() is None:
        wishes = iter([False, True, True])
        try:
            train(config, directory, lambda wishes=wishes: next(wishes))
        except Stopped:
            stops.append(checkpoint.load(directory.checkpoint_file)["progress"]["step"])
    assert stops == stopped_at
    assert kill.outcome_of(directory) == kill.outcome_of(undisturbed)


def test_fetching_counts_as_waiting_not_as_computing(tmp_path: Path, tiny, monkeypatch):
    config = tiny({"train.epochs": 1})
    training = Training(config, RunDirectory.create(tmp_path, config))
    batch = training.pictures.batch

    def slowly(indices_N: torch.Tensor) -> torch.Tensor:
        time.sleep(0.1)
        return batch(indices_N)

    monkeypatch.setattr(training.pictures, "batch", slowly)
    training.run(lambda: False)
    training.close()
    assert training.progress.step == 5
    assert training.progress.wall_seconds - training.progress.seconds > 5 * 0.1
    assert training.progress.seconds > 0


def test_a_compiled_step_computes_the_same(tmp_path: Path, tiny, monkeypatch):
    """With what torch.compile makes of the model run as it is: generating code for it takes a minute."""
    compiled_as_asked = torch.nn.Module.compile
    modes = []

    def compile_without_code(module: torch.nn.Module, mode: str, dynamic: bool) -> None:
        modes.append(mode)
        compiled_as_asked(module, backend="aot_eager", fullgraph=True, dynamic=dynamic)

    monkeypatch.setattr(torch.nn.Module, "compile", compile_without_code)
    losses = []
    for compiled in (False, True):
        config = tiny({"machine.compile": compiled, "machine.log_steps": 1, "train.epochs": 1})
        directory = RunDirectory.create(tmp_path / str(compiled), config)
        train(config, directory)
        losses.append([line["loss"] for line in kill.journal_of(directory) if line["event"] == "step"])
    assert modes == ["default"]
    assert losses[1][0] == pytest.approx(losses[0][0], rel=1e-5)
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)


def test_every_training_of_a_process_is_compiled_for_its_own_shapes(monkeypatch):
    compiled_as_asked = torch.nn.Module.compile
    shapes = []

    def backend(graph: torch.fx.GraphModule, inputs: list) -> torch.fx.GraphModule:
        shapes.extend(x.shape for x in inputs if not isinstance(x, torch.nn.Parameter))
        return graph

    def compile_without_code(module: torch.nn.Module, mode: str, dynamic: bool) -> None:
        compiled_as_asked(module, backend=backend, fullgraph=True, dynamic=dynamic)

    monkeypatch.setattr(torch.nn.Module, "compile", compile_without_code)
    expected = []
    for size in range(2, 12):
        model = torch.nn.Linear(3, size)
        compile_model(model, "cpu")
        for count in (size, 2 * size):
            model(torch.ones(count, 3))
            expected.append((count, 3))
    # One with a symbolic size would equal no number here.
    assert [tuple(map(str, shape)) for shape in shapes] == [tuple(map(str, shape)) for shape in expected]


@pytest.mark.parametrize(("device", "mode"), [("cuda", "reduce-overhead"), ("cpu", "default")])
def test_a_gpu_replays_what_is_compiled_as_graphs(monkeypatch, device: str, mode: str):
    asked = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda _module, **settings: asked.append(settings))
    compile_model(torch.nn.Linear(3, 3), device)
    assert asked == [{"mode": mode, "dynamic": False}]


def test_checkpoints_hold_no_code_and_load_with_weights_only(tmp_path: Path, tiny):
    answers = iter([True])
    directory = RunDirectory.create(tmp_path, tiny())
    with pytest.raises(Stopped):
        train(tiny(), directory, lambda: next(answers))
    state = torch.load(directory.checkpoint_file, weights_only=True)
    assert state["progress"]["step"] == 1


def test_a_finished_training_leaves_nothing_behind(tiny, tmp_path):
    """A worker trains one run after another; without waiting for Python's rare collections, a model must be gone."""
    config = tiny()
    training = Training(config, RunDirectory.create(tmp_path, config))
    training.step(training.pictures.batch(training.indices(0)), 0)
    training.close()
    left = weakref.ref(training.model)
    gc.collect()
    gc.disable()
    try:
        del training
        assert left() is None
    finally:
        gc.enable()
