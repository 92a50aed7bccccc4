"""The device that computes: which one, what it holds, and how something gets there without anybody waiting."""

import resource
import sys

import torch
from torch import Tensor

from core.errors import Cause, RunFailed


def pick_device(name: str) -> str:
    """The device called `name`; "auto" is CUDA where there is one. Raises: RunFailed."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise RunFailed(Cause.CODE_ERROR, "machine.device=cuda: this machine has no CUDA device; allowed here: cpu")
    return name


def send(value: Tensor, device: str | torch.device) -> Tensor:
    """A tensor of the CPU on `device`.

    From ordinary memory a copy to a GPU waits until everything before it is computed, and the GPU then idles until the
    next operation is launched; from pinned memory it is queued like any operation.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return value.pin_memory().to(device, non_blocking=True)
    return value.to(device)


def peak_memory_mb(device: str) -> float:
    """Largest memory in use so far: of the process on a CPU, of its tensors on a GPU."""
    if device == "cuda":
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux KiB
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20, 1)
