"""Shared pieces: a run so small that it trains in a second, and its data decoded once per session."""

import os
from pathlib import Path
from typing import Any

# Before torch is imported: tests share the cores with the processes that they start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

from core.config import RunConfig, run_config, unflatten
from tests import slurm_standin

# On a busy machine an example may take any time.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

TINY: dict[str, Any] = {
    "data.image_size": 16,
    "data.stored_size": 16,
    "data.train_size": 160,
    "data.test_size": 40,
    "encoder.depth": 10,
    "encoder.width": 0.125,
    "encoder.stem": "cifar",
    "head.out_dim": 16,
    "optimizer.name": "sgd",
    "optimizer.base_lr": 0.05,
    "optimizer.lr_scaling": "none",
    "train.batch_size": 32,
    "train.epochs": 3,
    "train.warmup_epochs": 1,
    "augment.transforms": ["crop", "color"],
    "machine.log_steps": 2,
    "machine.threads": 1,
}

LINEAR = {"linear": {"protocol": "lbfgs"}}

LONGEST = ("test_slurm.py", "test_sweep.py")
"""Files that take minutes: begun first, so that no worker of the suite is left alone with one at its end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def data_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data cache")


@pytest.fixture
def tiny(data_cache: Path):
    """Makes the config of a tiny run; dotted keys replace its settings."""

    def make(settings: dict[str, Any] | None = None) -> RunConfig:
        return run_config(unflatten({**TINY, "data.cache_dir": str(data_cache), **(settings or {})}))

    return make


@pytest.fixture(params=["compiled", "tensors"])
def each_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test runs twice: with what is compiled for a CPU, and with the tensor operations that a GPU uses."""
    if request.param == "tensors":
        from core.augment import compiled

        monkeypatch.setattr(compiled, "handles", lambda x_NCHW: False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder whose name needs quoting."""
    path = tmp_path / "a folder with 'quotes' and spaces"
    path.mkdir()
    return path


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in where SLURM is a stand-in."""
    slurm_standin.install(tmp_path, monkeypatch)
    return tmp_path
