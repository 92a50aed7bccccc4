"""All speed comparisons in one table: `python -m tests.benchmarks [--only NAME ...] [--quick] [--csv FILE]`.

Each line says how much work a second of wall time and of processor time did, median (least to most) of n rounds, and
the ratio of ours to it. The contenders of a case take turns in one process. `pip install -e '.[bench]'` installs the
peers. Without `planner`, which makes 100,000 run directories, and `sweep`, which trains 50 runs of `mini` three times,
it takes about twenty minutes on two cores, with `--quick` about eight.
"""

import argparse
import logging
import os
import platform
import time
import warnings
from importlib import import_module
from pathlib import Path

# Before torch is imported: all contenders run on the CPU, ours too where there is a GPU.
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import psutil
import torch

from core.environment import cores, cpu_model, source_version
from tests.benchmarks.measure import HEADER, Line, shown, write_csv

BENCHMARKS = {
    "augment": "views/s of SimCLR's augmentation beside lightly, torchvision and kornia",
    "limit": "full step against bare step, and that against the peak of the machine, layer by layer",
    "loss": "NT-Xent beside the plain formulation and lightly, with peak memory",
    "evaluation": "linear evaluation and kNN beside scikit-learn and lightly",
    "data": "starting on a picture folder, and reading from it beside torchvision",
    "sweep": "a whole study beside a shell loop, Hydra's joblib launcher and the sum of bare compute",
    "planner": "plan, status, collect and report of 1,000 to 100,000 cells, MLflow sync of 2,000 runs",
    "end_to_end": "pretraining beside lightly with Lightning",
    "accuracy": "time to 35% kNN accuracy beside lightly with Lightning, on CIFAR-10 pictures",
}


def main() -> None:
    names = "\n".join(f"  {name:12} {what}" for name, what in BENCHMARKS.items())
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description=f"{__doc__}\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS), metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, cases and sizes")
    parser.add_argument("--csv", type=Path, default=Path("benchmarks.csv"), help="default %(default)s")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)

    commit, dirty = source_version()
    print(
        f"commit {commit[:12]}{' with changes' if dirty else ''}, {cpu_model() or platform.machine()}, {cores()} cores"
    )
    print(f"torch {torch.__version__}, load at the start {psutil.getloadavg()[0]:.1f}")
    lines: list[Line] = []
    for name in arguments.only:
        begin = time.perf_counter()
        print(f"\n{name}: {BENCHMARKS[name]}\n{HEADER}", flush=True)
        for line in import_module(f"tests.benchmarks.{name}").lines(arguments.quick):
            lines.append(line)
            print(shown(line), flush=True)
        print(f"{name} took {time.perf_counter() - begin:.0f} s", flush=True)
        write_csv(arguments.csv, lines)
    print(f"\n{arguments.csv}")


if __name__ == "__main__":
    main()
