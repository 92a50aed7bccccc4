"""One run over two gloo processes equals the run of one process (design invariant 1)."""

import datetime
import json
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from core import checkpoint, data, distributed
from core.config import RunConfig
from core.identity import run_id
from core.journal import read_lines
from core.rundir import RunDirectory
from core.train import UNREAD_STEPS, Stopped, train
from tests.benchmarks.distributed import compare, differences
from tests.conftest import LINEAR
from tests.kill import outcome_of


def test_first_step_of_two_processes_is_that_of_one(tiny, tmp_path):
    config = tiny()
    data.prepare(config.data, None)
    steps = compare(config, tmp_path)
    assert steps["two single"]["negatives"] == steps["one single"]["negatives"] == 2 * config.train.batch_size - 2
    assert max(differences(steps["one double"], steps["two double"])) < 1e-5
    loss, gradient, _ = differences(steps["one single"], steps["two single"])
    assert loss < 1e-5
    # In single precision rounding puts units on the other side of their ReLU, on one process as on two.
    _, by_rounding, _ = differences(steps["one double"], steps["one single"])
    assert gradient < max(1e-3, 2 * by_rounding)


def test_supervised_training_by_two_processes_follows_that_of_one(tiny, tmp_path):
    config = tiny({"train.objective": "supervised", "train.epochs": 1, "machine.log_steps": 1})
    data.prepare(config.data, None)
    train(config, RunDirectory.create(tmp_path / "one", config))
    mp.spawn(_train, args=(config, tmp_path), nprocs=2)
    lines = [list(read_lines(RunDirectory(tmp_path / name, run_id(config)).journal_file)) for name in ("one", "two")]
    for key in ("loss", "accuracy", "lr", "samples"):
        first, second = ([line[key] for line in journal if line["event"] == "step"] for journal in lines)
        assert second == pytest.approx(first, rel=1e-3), key


def _train(rank: int, config: RunConfig, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    train(config, RunDirectory.create(folder / "two", config))
    dist.destroy_process_group()


def _normalise(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(0)
    norm = distributed.synchronise_batch_norm(nn.Sequential(nn.BatchNorm2d(3)))
    x_NCHW = 100 + torch.randn(8, 3, 4, 4)
    own = x_NCHW[4 * rank : 4 * rank + 4].requires_grad_()
    y_NCHW = norm(own)
    (y_NCHW * torch.linspace(0, 1, 8)[4 * rank : 4 * rank + 4, None, None, None]).sum().backward()
    torch.save({"y": y_NCHW.detach(), "gradient": own.grad, "state": norm.state_dict()}, folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_shared_batch_norm_is_that_of_the_whole_batch(tmp_path):
    mp.spawn(_normalise, args=(tmp_path,), nprocs=2)
    torch.manual_seed(0)
    norm = nn.Sequential(nn.BatchNorm2d(3))
    x_NCHW = (100 + torch.randn(8, 3, 4, 4)).requires_grad_()
    y_NCHW = norm(x_NCHW)
    (y_NCHW * torch.linspace(0, 1, 8)[:, None, None, None]).sum().backward()
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    torch.testing.assert_close(torch.cat([part["y"] for part in parts]), y_NCHW.detach(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.cat([part["gradient"] for part in parts]), x_NCHW.grad, rtol=1e-4, atol=1e-5)
    for part in parts:
        torch.testing.assert_close(part["state"], norm.state_dict())


def _fail(rank: int, port: int) -> None:
    """The follower fails by itself after an exchange, and the leader waits for it in the next one."""
    distributed.PATIENCE = datetime.timedelta(seconds=60)  # the end of which is another error
    group = distributed.Group.join(rank, 2, "127.0.0.1", port)
    group.announce({}) if rank == 0 else group.listen()
    with suppress(ZeroDivisionError), group.session("cpu"):
        assert distributed.mean_of_all(torch.tensor(float(rank))) == 0.5
        if rank == 1:
            group.note_failure("code error", "by zero")
            raise ZeroDivisionError
        with pytest.raises(RuntimeError) as caught:
            distributed.mean_of_all(torch.zeros(1))
        assert distributed.is_lost_connection(caught.value)
    if rank == 0:
        assert group.failure() == ("code error", "by zero")
        group.announce(None)
    else:
        assert group.listen() is None  # it lived on


def test_a_process_that_fails_is_noticed_by_the_other_at_once():
    _group, port = distributed.Group.lead(2)
    mp.spawn(_fail, args=(port,), nprocs=2)


def test_a_process_that_does_not_come_is_not_waited_for_without_end(monkeypatch):
    monkeypatch.setattr(distributed, "PATIENCE", datetime.timedelta(seconds=20))
    monkeypatch.setattr(distributed, "SESSION_PATIENCE", datetime.timedelta(seconds=0.2))
    group, _port = distributed.Group.lead(2)
    with pytest.raises(RuntimeError, match="rank 1"), group.session("cpu"):
        pass


@pytest.mark.parametrize(("device", "backend"), [("cuda", "nccl"), ("cpu", "gloo")])
def test_a_session_between_gpus_waits_less_than_an_evaluation_may_take(monkeypatch, device: str, backend: str):
    asked = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _gpu: None)
    monkeypatch.setattr(dist, "init_process_group", lambda name, **settings: asked.append((name, settings)))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    group, _port = distributed.Group.lead(1)
    with group.session(device):
        ((name, settings),) = asked
    assert name == backend
    assert (settings["timeout"] <= datetime.timedelta(hours=1)) == (backend == "nccl")
    assert settings.get("device_id") == (torch.device("cuda", 0) if backend == "nccl" else None)


WORKER = [sys.executable, "-m", "sweeps.worker", "2"]


def ask(process: subprocess.Popen, directory: RunDirectory) -> None:
    request = {"run": directory.id, "runs_dir": str(directory.path.parent), "evaluations": LINEAR, "machine": {}}
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()


def begin(directory: RunDirectory) -> subprocess.Popen:
    """A worker of two processes that was asked to execute the run."""
    worker = subprocess.Popen(WORKER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    ask(worker, directory)
    return worker


def end(worker: subprocess.Popen) -> str:
    """The outcome of the run; the worker and its follower are gone."""
    outcome = json.loads(worker.stdout.readline())["outcome"]
    worker.stdin.close()
    assert worker.wait(20) == 0
    return outcome


def _stopped_by_the_follower(rank: int, config: RunConfig, folder: Path) -> None:
    """Again and again by a wish of rank 1 alone, where values are read a step late, as on GPUs."""
    torch.set_num_threads(1)
    UNREAD_STEPS["cpu"] = 1
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet_late", rank=rank, world_size=2)
    directory = RunDirectory.create(folder / "late", config)
    steps = []
    while True:
        wishes = iter([False, True, False])
        try:
            train(config, directory, lambda wishes=wishes: rank == 1 and next(wishes))
            break
        except Stopped:
            dist.barrier()  # until rank 0 has saved
            steps.append(checkpoint.load(directory.checkpoint_file)["progress"]["step"])
    (folder / f"{rank}.json").write_text(json.dumps(steps))
    dist.destroy_process_group()


def test_what_one_process_wishes_all_do_after_the_same_step(tiny, tmp_path):
    config = tiny({"train.epochs": 2, "machine.log_steps": 1})
    data.prepare(config.data, None)
    mp.spawn(_train, args=(config, tmp_path), nprocs=2)
    mp.spawn(_stopped_by_the_follower, args=(config, tmp_path), nprocs=2)
    assert [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)] == [[3, 5, 8]] * 2
    whole, stopped = (outcome_of(RunDirectory(tmp_path / name, run_id(config))) for name in ("two", "late"))
    assert stopped == whole


def test_two_processes_that_were_stopped_go_on_exactly(tiny, tmp_path):
    config = tiny({"train.epochs": 12, "machine.log_steps": 1})
    data.prepare(config.data, None)
    whole = RunDirectory.create(tmp_path / "whole", config)
    assert end(begin(whole)) == "done"
    stopped = RunDirectory.create(tmp_path / "stopped", config)
    first = begin(stopped)
    deadline = time.monotonic() + 60
    while len(list(read_lines(stopped.journal_file))) < 20 and time.monotonic() < deadline:
        time.sleep(0.02)
    first.send_signal(signal.SIGTERM)
    assert end(first) == "stopped"
    assert stopped.result() is None
    assert end(begin(stopped)) == "done"
    assert outcome_of(stopped) == outcome_of(whole)


def test_a_follower_that_dies_takes_its_worker_with_it(tiny, tmp_path):
    config = tiny({"train.epochs": 400, "machine.log_steps": 1})
    data.prepare(config.data, None)
    directory = RunDirectory.create(tmp_path, config)
    worker = begin(directory)
    deadline = time.monotonic() + 60
    while not list(read_lines(directory.journal_file)) and time.monotonic() < deadline:
        time.sleep(0.02)
    (follower,) = psutil.Process(worker.pid).children()
    follower.kill()
    assert worker.wait(20) == -signal.SIGKILL
