"""Ten thousand runs on a private SLURM cluster: `python -m tests.benchmarks.submission [--seeds 205]`.

Plans a study with that many seeds, hands it to SLURM as arrays (whose nodes are drained, so that nothing starts),
fills the run directories as a sweep half-way through would, and asks for the status. Prints wall and
processor time of each command, and how often it called SLURM. Needs root and the packages of tests/slurm/cluster.py.
"""

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.benchmarks.half_done import fill
from tests.slurm.cluster import NODES, Cluster, missing
from tests.slurm.lab import Lab

WORDS = ["study=augment_pairs", "scale=smoke", "launcher=slurm", "tracking.enabled=false"]
COMMANDS = ("sbatch", "squeue", "sacct", "scontrol")


def count_calls(cluster: Cluster, folder: Path) -> Path:
    """Put scripts before SLURM's commands on the path that write down every call; the file they write to."""
    folder.mkdir()
    calls = folder / "calls"
    for name in COMMANDS:
        real = shutil.which(name, path=cluster.env["PATH"])
        (folder / name).write_text(f'#!/bin/sh\necho {name} >> {calls}\nexec {real} "$@"\n')
        (folder / name).chmod(0o755)
    cluster.env["PATH"] = f"{folder}:{cluster.env['PATH']}"
    return calls


def timed(lab: Lab, calls: Path, what: str, *words: str) -> str:
    """Print what a command took; its output. Raises: RuntimeError if it failed."""
    calls.write_text("")
    begin, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = lab.call(*words)
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(done.stderr)
    processor = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    counts = Counter(calls.read_text().split())
    asked = ", ".join(f"{count} {name}" for name, count in counts.items())
    print(f"{what:28} {wall:6.1f} s wall {processor:6.1f} s processor   {asked}", flush=True)
    return done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.submission", description=__doc__)
    parser.add_argument("--seeds", type=int, default=205, help="times 50 is the number of runs")
    seeds = parser.parse_args().seeds
    if missing():
        print(missing(), file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name, Cluster() as cluster:
        cluster.call("scontrol", "update", f"nodename={','.join(NODES)}", "state=drain", "reason=benchmark")
        lab = Lab(cluster, Path(name), [*WORDS, f"seeds={seeds}"])
        calls = count_calls(cluster, Path(name) / "bin")
        print(f"load at the start {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        timed(lab, calls, "plan", "action=plan")
        print(timed(lab, calls, "plan and submit").splitlines()[1])
        timed(lab, calls, "submit again")
        (record,) = (lab.folder / "outputs" / "submissions").glob("*/runs.jsonl")
        runs = [json.loads(line) for line in record.read_text().splitlines()]
        counts = fill(lab.runs, {run["id"]: run["evaluation_ids"].values() for run in runs})
        print(", ".join(f"{count} {state}" for state, count in counts.items()))
        timed(lab, calls, "status, the first time", "action=status")
        print(timed(lab, calls, "status", "action=status").splitlines()[0])
    return 0


if __name__ == "__main__":
    sys.exit(main())
