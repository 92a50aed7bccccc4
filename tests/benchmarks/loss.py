"""NT-Xent in value and gradient at growing batches, ours beside the plain formulation and lightly's.

Time is measured in turns in one process, peak memory in a process for each: what it needs beyond what it had
before. `python -m tests.benchmarks.loss CONTENDER VIEWS` prints the latter, in MiB.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from core.config import LossConfig
from core.environment import cores
from core.loss import contrastive_loss
from tests.benchmarks.measure import Contender, Line, compare

DIM = 128
TEMPERATURE = 0.1
Loss = Callable[[Tensor, Tensor], Tensor]


def ours(z1_ND: Tensor, z2_ND: Tensor) -> Tensor:
    return contrastive_loss(LossConfig(temperature=TEMPERATURE), z1_ND, z2_ND).loss


def plain(z1_ND: Tensor, z2_ND: Tensor) -> Tensor:
    """Eq. 1 as tutorials write it: all similarities, the diagonal masked, cross-entropy."""
    z_AD = F.normalize(torch.cat([z1_ND, z2_ND]), dim=1)
    logits_AA = (z_AD @ z_AD.T / TEMPERATURE).fill_diagonal_(-torch.inf)
    return F.cross_entropy(logits_AA, torch.arange(len(z_AD)).roll(len(z1_ND)))


def by_lightly(z1_ND: Tensor, z2_ND: Tensor) -> Tensor:
    from lightly.loss import NTXentLoss

    return NTXentLoss(temperature=TEMPERATURE)(z1_ND, z2_ND)


LOSSES: dict[str, Loss] = {"ours": ours, "plain": plain, "lightly": by_lightly}


def step(loss: Loss, views: int) -> Contender:
    generator = torch.Generator().manual_seed(0)
    z1_ND, z2_ND = (z.requires_grad_() for z in torch.randn(2, views // 2, DIM, generator=generator).unbind())

    def run() -> float:
        z1_ND.grad = z2_ND.grad = None
        loss(z1_ND, z2_ND).backward()
        return 1.0

    return run


def largest_difference(views: int, other: Loss) -> float:
    """Of the gradients, over the largest component."""
    generator = torch.Generator().manual_seed(0)
    z1_ND, z2_ND = (z.requires_grad_() for z in torch.randn(2, views // 2, DIM, generator=generator).unbind())
    own, theirs = (torch.cat(torch.autograd.grad(loss(z1_ND, z2_ND), (z1_ND, z2_ND))) for loss in (ours, other))
    return ((own - theirs).abs().max() / theirs.abs().max()).item()


def peak_mib(name: str, views: int) -> float:
    command = [sys.executable, "-m", "tests.benchmarks.loss", name, str(views)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def lines(quick: bool) -> Iterator[Line]:
    torch.set_num_threads(cores())
    for views in (1024, 4096) if quick else (1024, 4096, 16384):
        contenders = {name: step(loss, views) for name, loss in LOSSES.items()}
        rounds = 2 if views > 8192 else 5
        memory = {name: peak_mib(name, views) for name in LOSSES}
        difference = largest_difference(views, plain)
        for line in compare("loss", f"2N = {views:,}", "losses/s", contenders, rounds, 0.2, warm=views > 8192):
            note = f"peak {memory[line.contender]:,.0f} MiB"
            if line.contender == "ours":
                note += f", gradients differ by {difference:.0e}"
            else:
                note += f", ours {memory['ours'] / memory[line.contender]:.3f} of it"
            yield replace(line, note=note)


def _status(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise LookupError(name)


def main() -> None:
    name, views = sys.argv[1], int(sys.argv[2])
    torch.set_num_threads(cores())
    step(LOSSES[name], 64)()
    run = step(LOSSES[name], views)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from here
    run()
    print(_status("VmHWM") - before)


if __name__ == "__main__":
    main()
