"""A Hydra application that executes one run, for the launchers that tests/benchmarks/sweep.py compares with ours.

    python -m tests.benchmarks.one_run folder=DIR number=3
    python -m tests.benchmarks.one_run --multirun hydra/launcher=joblib folder=DIR number=0,1,2

DIR holds prepared run directories and `jobs.json`, a list of {"run", "evaluations"}.
"""

import json
from dataclasses import dataclass

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from core.execute import execute
from core.rundir import RunDirectory

JOBS_FILE = "jobs.json"


@dataclass
class Job:
    folder: str = MISSING
    number: int = MISSING


ConfigStore.instance().store(name="job", node=Job)


@hydra.main(version_base=None, config_name="job")
def main(job: Job) -> None:
    """Raises: RuntimeError if the run did not end well."""
    with open(f"{job.folder}/{JOBS_FILE}") as file:
        asked = json.load(file)[job.number]
    outcome = execute(RunDirectory(job.folder, asked["run"]), asked["evaluations"], {})
    if outcome.outcome != "done":
        raise RuntimeError(f"{asked['run']}: {outcome}")


if __name__ == "__main__":
    main()
