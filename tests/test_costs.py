"""Estimates: from finished runs on the same kind of device, else from the stated model."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core.errors import UserError
from core.rundir import RunDirectory, write_json
from core.states import observe_all
from sweeps import request
from sweeps.costs import CPU_SPEED, GPU_SPEED, STARTUP_SECONDS, STEP_SECONDS, Speed, check_disk
from sweeps.grid import expand
from sweeps.plan import evaluation_work, grid_disk_bytes, plan, samples, work
from sweeps.planned import PlannedRun
from tests.pictures import pictures

INFO = pictures(512, 256)
STEPS = 16
"""Of a run of `smoke`."""


def planned(*words: str) -> list[PlannedRun]:
    """A cell of Figure 5 under two seeds, with the untrained encoder left out."""
    axes = ["augment.transforms.0=crop", "augment.transforms.1=color"]
    (asked,) = request.read(["study=augment_pairs", "scale=smoke", "seeds=2", *axes, *words])
    return list(expand(asked, INFO).cells[0].runs)


def write(runs: Path, run: PlannedRun, seconds: float, device: str, evaluations: tuple[str, ...] = ()) -> None:
    """A finished run that trained for `seconds`, and half a second for each of its evaluations."""
    directory = RunDirectory(runs, run.id)
    environment: dict[str, Any] = {"environment": {"device": device}}
    times = {"steps": STEPS, "seconds": seconds, "compute_seconds": seconds / 2}
    write_json(directory.result_file, {"metrics": {}, **times, **environment})
    for name in evaluations:
        write_json(directory.evaluation_file(run.evaluation_ids[name]), {"metrics": {}, "seconds": 0.5, **environment})


@pytest.mark.parametrize(("on_gpu", "assumed", "step"), [(False, CPU_SPEED, STEP_SECONDS), (True, GPU_SPEED, 0.0)])
def test_without_finished_runs_the_speed_is_assumed(tmp_path: Path, on_gpu: bool, assumed: float, step: float):
    first, _ = planned()
    speed = Speed.of(tmp_path, [], INFO, on_gpu)
    assert speed.basis.endswith("GMAC/s per worker assumed")
    expected = work(first.config, 512) / assumed + STEPS * step + STARTUP_SECONDS
    assert speed.training(first) == pytest.approx(expected)
    trees = first.evaluations.values()
    assert speed.evaluating(first, first.evaluations) == pytest.approx(
        evaluation_work(first.config, trees, INFO) / assumed
    )


def test_finished_runs_tell_the_speed_of_their_own_device_only(tmp_path: Path):
    first, second = planned()
    write(tmp_path, first, 4.0, "cpu", tuple(first.evaluation_ids))
    speed = Speed.of(tmp_path, [first], INFO, on_gpu=False)
    assert speed.training(second) == pytest.approx(4.0)
    assert speed.evaluating(second, second.evaluations) == 0.5 * len(second.evaluation_ids)
    assert speed.basis == "speed of the finished runs"
    assert Speed.of(tmp_path, [first], INFO, on_gpu=True).multiply_adds == GPU_SPEED


def test_smaller_batches_take_longer_by_what_a_step_takes_beside_its_pictures(tmp_path: Path):
    first, _ = planned()
    write(tmp_path, first, 4.0, "cpu")
    speed = Speed.of(tmp_path, [first], INFO, on_gpu=False)
    (halved, _) = planned("train.batch_size=32")
    assert samples(halved.config, 512) == samples(first.config, 512)
    assert speed.training(halved) == pytest.approx(4.0 + STEPS * STEP_SECONDS)


def test_a_study_that_has_not_run_takes_the_speed_of_runs_of_like_shape(tmp_path: Path):
    (first, _), (wider, _) = planned(), planned("encoder.width=0.5")
    directory = RunDirectory.create(tmp_path, first.config)
    write(tmp_path, first, 4.0, "cpu")
    write_json(directory.result_file, {**(directory.result() or {}), "samples": samples(first.config, 512)})
    (other, _) = planned("loss.temperature=0.5")
    for temperature, damage in ((0.3, "["), (0.4, '{"steps": 1}')):  # in another study's directory
        damaged = RunDirectory.create(tmp_path, planned(f"loss.temperature={temperature}")[0].config)
        damaged.result_file.write_text(damage)
    speed = Speed.of(tmp_path, [], INFO, on_gpu=False, like=other.config)
    assert speed.training(other) == pytest.approx(4.0)
    assert speed.basis == "speed of finished runs with the same encoder"
    assert Speed.of(tmp_path, [], INFO, on_gpu=False, like=wider.config).multiply_adds == CPU_SPEED
    assert Speed.of(tmp_path, [], INFO, on_gpu=True, like=other.config).multiply_adds == GPU_SPEED


def test_a_trained_run_costs_the_evaluations_that_it_lacks(tmp_path: Path):
    first, second = planned()
    names = tuple(first.evaluation_ids)
    write(tmp_path, first, 4.0, "cpu", names)
    write(tmp_path, second, 4.0, "cpu", names[1:])
    states = observe_all(tmp_path, {run.id: run.evaluation_ids for run in (first, second)})
    planned_ = plan([first, second], states)
    assert planned_.evaluate == (second,)
    assert Speed.of(tmp_path, planned_.done, INFO, on_gpu=False).of_plan(planned_) == 0.5


def test_a_disk_that_is_too_small_is_said_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (asked,) = request.read(["study=augment_pairs", "scale=smoke", f"output_dir={tmp_path}"])
    grid = expand(asked, INFO)
    plan_ = plan(grid.runs().values(), observe_all(tmp_path, {run: {} for run in grid.runs()}))
    needed = grid_disk_bytes(grid, plan_)
    for free in (needed, needed - 1):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: SimpleNamespace(free=free))
        if free == needed:
            check_disk(grid, plan_)
        else:
            with pytest.raises(UserError, match=f"output_dir={tmp_path}: the study needs about"):
                check_disk(grid, plan_)
