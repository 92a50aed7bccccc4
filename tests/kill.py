"""Kill a run at random moments, start it again each time, and compare it with an undisturbed one.

`python -m tests.kill` does it twenty times to a run of the `mini` scale on the embedded data and prints a
line per kill; tests/test_train.py does it a few times to a tiny one.
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from core import data
from core.config import RunConfig, as_dict, flatten
from core.identity import run_id
from core.journal import read_lines
from core.rundir import RunDirectory

VARYING = {"time", "images_per_s", "memory_mb", "seconds"}
"""What two equal journals may differ in."""

EXECUTE = """
import json, sys
from core.config import run_config, unflatten
from core.execute import execute
from core.rundir import RunDirectory
config = run_config(unflatten(json.loads(sys.argv[2])))
directory = RunDirectory.create(sys.argv[1], config)
print("ready", flush=True)
outcome = execute(directory, {"linear": {"protocol": "lbfgs"}, "knn": {}}, {})
sys.exit(outcome.outcome != "done")
"""


def journal_of(directory: RunDirectory) -> list[dict[str, Any]]:
    lines = read_lines(directory.journal_file)
    return [{key: value for key, value in line.items() if key not in VARYING} for line in lines]


def outcome_of(directory: RunDirectory) -> dict[str, Any]:
    """Everything that must not depend on how often a run was interrupted."""
    result = directory.result()
    assert result is not None
    evaluations = sorted(directory.evaluations.glob("*.json"))
    return {
        "encoder": directory.encoder_file.read_bytes(),
        "head": directory.head_file.read_bytes(),
        "journal": journal_of(directory),
        "metrics": result["metrics"],
        "evaluations": {file.name: json.loads(file.read_text())["metrics"] for file in evaluations},
    }


def start(runs: Path, config: RunConfig) -> subprocess.Popen:
    """A process that executes the run; returned when it is about to begin."""
    arguments = [sys.executable, "-c", EXECUTE, str(runs), json.dumps(dict(flatten(as_dict(config))))]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def campaign(folder: Path, config: RunConfig, kills: int, seed: int) -> tuple[RunDirectory, RunDirectory, list[float]]:
    """An undisturbed run, the same run killed `kills` times, and the seconds that each attempt had lived.

    The moments are spread so that the kills fall over the whole length of the run.
    """
    begin = time.monotonic()
    assert start(folder / "whole", config).wait() == 0
    length = time.monotonic() - begin
    chance = random.Random(seed)
    moments: list[float] = []
    while len(moments) < kills:
        process = start(folder / "killed", config)
        moment = chance.uniform(0, 1.5 * length / kills)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.kill()
        process.wait()
        moments.append(moment)
    assert start(folder / "killed", config).wait() == 0
    identity = run_id(config)
    return RunDirectory(folder / "whole", identity), RunDirectory(folder / "killed", identity), moments


def main() -> None:
    from sweeps.grid import data_config, expand
    from sweeps.request import read

    with tempfile.TemporaryDirectory() as name:
        (request,) = read(["study=recipe", f"output_dir={name}", "machine.checkpoint_seconds=0.5"])
        grid = expand(request, data.inspect(data_config(request)))
        config = grid.cells[0].runs[0].config
        data.prepare(config.data, None)
        whole, killed, moments = campaign(Path(name), config, kills=20, seed=0)
        ended = [line for line in read_lines(killed.attempts_file) if line["event"] == "end"]
        started = [line for line in read_lines(killed.attempts_file) if line["event"] == "start"]
        print("attempts lived (s):", " ".join(f"{moment:.1f}" for moment in moments))
        print(f"{len(started)} attempts, {len(started) - len(ended)} of them killed")
        first, second = outcome_of(whole), outcome_of(killed)
        for part in first:
            print(f"{part:12} {'identical' if first[part] == second[part] else 'DIFFERENT'}")


if __name__ == "__main__":
    main()
