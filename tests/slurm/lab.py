"""A user of a cluster: the command line in a folder, and what can be seen of the runs from outside."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from core.lease import holder
from core.rundir import RunDirectory
from sweeps.tail import last_step
from tests.commandline import RUN
from tests.kill import outcome_of
from tests.slurm.cluster import Cluster

CALL_SECONDS = 180


class Lab:
    """Someone who calls the program in `folder`, with `words` on every command line."""

    def __init__(self, cluster: Cluster, folder: Path, words: Sequence[str] = ()):
        self.cluster = cluster
        self.folder = folder
        self.words = list(words)
        self.runs = folder / "outputs" / "runs"

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*RUN, *self.words, *words],
            env=self.cluster.env, cwd=self.folder, capture_output=True, text=True, timeout=CALL_SECONDS,
        )  # fmt: skip

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """As `call`, without waiting for it."""
        with open(self.folder / "calls.log", "ab") as log:
            return subprocess.Popen(
                [*RUN, *self.words, *words], env=self.cluster.env, cwd=self.folder, stdout=log, stderr=log
            )

    def wait(self, seconds: float = 240) -> None:
        """Until no job is left in the queue; what SLURM holds back after a requeue may start soon."""

        def is_empty() -> bool:
            self.cluster.hurry()
            return not self.cluster.jobs()

        self.cluster.wait(is_empty, seconds, "an empty queue")

    def training(self) -> list[RunDirectory]:
        """The runs that a living process trains, past their first step."""
        found = []
        for path in self.runs.glob("*"):
            run = RunDirectory(self.runs, path.name)
            if not run.result_file.exists() and holder(run.lease_file) is not None and last_step(run):
                found.append(run)
        return found

    def begun(self) -> RunDirectory:
        """A run that is being trained, waited for."""

        def look() -> list[RunDirectory]:
            self.cluster.hurry()
            return self.training()

        return self.cluster.wait(look, 120, "a run that trains")[0]

    def done(self) -> list[str]:
        return sorted(path.parent.name for path in self.runs.glob("*/result.json"))


def undisturbed(folder: Path, words: Sequence[str]) -> Path:
    """The runs of the same command line on this machine, left alone; their folder."""
    kept = [word for word in words if not word.startswith(("launcher", "tracking", "output_dir"))]
    subprocess.run(
        [*RUN, *kept, "tracking.enabled=false", "output_dir=outputs"], cwd=folder, check=True, capture_output=True
    )
    return folder / "outputs" / "runs"


def different(expected: Path, found: Path) -> set[str]:
    """The runs of `expected` whose counterpart in `found` is not done, or not the same bit by bit."""
    runs = [path.name for path in expected.iterdir()]
    return {run for run in runs if is_lost(expected, found, run) or differs(expected, found, run)}


def is_lost(expected: Path, found: Path, run: str) -> bool:
    """Whether the result or an evaluation of a run is missing."""
    asked = {file.name for file in RunDirectory(expected, run).evaluations.glob("*.json")}
    there = RunDirectory(found, run)
    return not there.result_file.exists() or not asked <= {file.name for file in there.evaluations.glob("*.json")}


def differs(expected: Path, found: Path, run: str) -> bool:
    """Whether weights, journal or metrics of a finished run are others than expected."""
    return outcome_of(RunDirectory(expected, run)) != outcome_of(RunDirectory(found, run))
