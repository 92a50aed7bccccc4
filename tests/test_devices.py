from pathlib import Path

import pytest

from sweeps import devices
from tests.commandline import TWO_CELLS, assert_refused, call


@pytest.fixture
def smi(tmp_path: Path, monkeypatch):
    """A stand-in for nvidia-smi that prints what the test says."""

    def install(text: str, code: int = 0) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {code}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return install


def test_gpus_are_counted(smi):
    smi("GPU 0: A (UUID: GPU-1)\nGPU 1: A (UUID: GPU-2)")
    assert devices.gpus() == ["0", "1"]


def test_a_driver_that_fails_has_no_gpus(smi):
    smi("NVIDIA-SMI has failed", code=9)
    assert devices.gpus() == []


@pytest.mark.parametrize(("visible", "expected"), [("", []), ("-1", []), ("2,3", ["2", "3"])])
def test_the_users_choice_counts(smi, monkeypatch, visible: str, expected: list[str]):
    smi("GPU 0: A\nGPU 1: A\nGPU 2: A\nGPU 3: A")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices.gpus() == expected


def test_gpus_that_torch_cannot_use_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    done = call(tmp_path, *TWO_CELLS)
    assert_refused(done, "machine.device=auto: cpu, as torch can use none of the GPUs")
    assert call(tmp_path, *TWO_CELLS, "action=plan", "machine.device=cpu").returncode == 0
