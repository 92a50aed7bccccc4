"""Short runs that share jobs: `python -m tests.benchmarks.packing`.

48 runs of `smoke` go to a private SLURM cluster as 3 jobs that take runs until none is left. What sharing costs is the
time of the jobs, from the start of the first to the end of the last, over a third of the runs' own summed time, each
run from the beginning to the end of its attempt, measured in the same jobs side by side.
Needs root and the packages of tests/slurm/cluster.py.
"""

import argparse
import os
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from core.journal import read_lines
from core.rundir import RunDirectory
from tests.slurm.cluster import Cluster, missing
from tests.slurm.lab import Lab

JOBS = 3
ACCOUNTING_SECONDS = 60.0
"""How long a job's end may take to get there, once its last run is done."""
WORDS = [
    "study=augment_pairs",
    "scale=smoke",
    "augment.transforms.0=crop,cutout,color,sobel,noise",
    "augment.transforms.1=color,blur,rotate",
    "seeds=3",
    "machine.threads=1",
    "launcher=slurm",
    f"launcher.jobs={JOBS}",
    "launcher.cpus_per_task=1",
    "launcher.time=30",
    "tracking.enabled=false",
]
"""15 cells and the untrained encoder, 3 seeds each: 48 runs."""


def own_seconds(run: RunDirectory) -> float:
    """From the beginning to the end of the run's only attempt. Raises: ValueError if there were several."""
    start, end = read_lines(run.attempts_file)
    return end["time"] - start["time"]


def job_seconds(cluster: Cluster) -> float:
    """From the start of the first job to the end of the last, by SLURM's accounting (whole seconds).

    Raises: TimeoutError if the accounting does not know of an end.
    """
    deadline = time.monotonic() + ACCOUNTING_SECONDS
    while "Unknown" in (told := cluster.call("sacct", "-n", "-P", "-X", "-o", "Start,End")):
        if time.monotonic() > deadline:
            raise TimeoutError(told)
        time.sleep(0.5)
    lines = told.splitlines()
    moments = [[datetime.fromisoformat(moment) for moment in line.split("|")] for line in lines]
    return (max(end for _, end in moments) - min(start for start, _ in moments)).total_seconds()


def main() -> int:
    argparse.ArgumentParser(prog="python -m tests.benchmarks.packing", description=__doc__).parse_args()
    if missing():
        print(missing(), file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name, Cluster() as cluster:
        lab = Lab(cluster, Path(name), WORDS)
        print(f"load at the start {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        submitted = lab.call()
        if submitted.returncode:
            raise RuntimeError(submitted.stderr)
        lab.wait(900)
        own = [own_seconds(RunDirectory(lab.runs, run)) for run in lab.done()]
        together = job_seconds(cluster)
        share = sum(own) / JOBS
        print(f"{len(own)} runs in {JOBS} jobs: {together:.0f} s; the runs' own time / {JOBS}: {share:.1f} s")
        print(f"ratio {together / share:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
