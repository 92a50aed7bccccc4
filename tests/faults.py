"""The fault campaign: `python -m tests.faults [--each 5] [--seed 0]`.

A study of 29 short runs goes to a private SLURM cluster and is disturbed until every kind of fault has struck
`--each` times. What SLURM and the jobs cannot mend themselves is mended as a user would: by submitting again.
Then every run is compared, bit by bit, with one that nobody disturbed. Needs root and the packages of
tests/slurm/cluster.py; it ends by itself, and everything that it started with it.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from core.journal import read_lines
from core.rundir import RunDirectory
from tests.slurm.cluster import Cluster, missing
from tests.slurm.disturber import FAULTS, Disturber
from tests.slurm.lab import Lab, differs, is_lost, undisturbed

CHECKPOINT_SECONDS = 1.0
STUDY = [
    "study=augment_pairs",
    "scale=smoke",
    "augment.transforms.1=crop,color,blur,noise",
    "machine.threads=1",
    f"machine.checkpoint_seconds={CHECKPOINT_SECONDS}",
    "machine.log_steps=1",
]
SHORT = ["augment.transforms.0=crop,color", "augment.transforms.1=color,blur"]
JOBS = [
    "launcher=slurm",
    "launcher.cpus_per_task=1",
    "launcher.time=10",
    "launcher.signal_seconds=5",
]
FOLDER_MB = 300
"""Size of the file system of the output folder."""
MLFLOW = "MLflow server stopped and started"
TRIES = 4
"""How often a fault is tried that found nothing to strike."""


@dataclass
class Damage:
    """What the faults did."""

    times: dict[str, int]
    victims: dict[str, set[str]]
    lost: set[str]
    twice: set[str]
    different: set[str]
    repeated: dict[str, list[float]]
    """Seconds of work thrown away, a number for every resumption that went back."""
    startup_seconds: float
    attempts: int
    seconds: float
    missed: list[str] = field(default_factory=list)
    """Faults that found nothing to strike, such as when all runs were done."""

    @property
    def allowed_seconds(self) -> float:
        """Work that one fault may cost: the checkpoint interval and the start-up of a worker."""
        return CHECKPOINT_SECONDS + self.startup_seconds

    @property
    def is_harmless(self) -> bool:
        most = max((max(seconds) for seconds in self.repeated.values()), default=0.0)
        return not (self.lost or self.twice or self.different) and most <= self.allowed_seconds


def campaign(
    cluster: Cluster,
    folder: Path,
    expected: Path,
    words: Sequence[str],
    kinds: Sequence[str],
    seed: int,
    seconds: float,
) -> Damage:
    """Strike with every one of `kinds`, in a random order; wait for the end; compare with the `expected` runs.

    folder: where the study is run, in its `outputs`. seconds: after which no more faults strike.
    """
    begin = time.monotonic()
    startup = _startup_seconds()
    runs = [path.name for path in expected.iterdir()]
    one = Disturber(Lab(cluster, folder, words), runs, seed, has_server=MLFLOW in kinds)
    times: dict[str, int] = defaultdict(int)
    victims: dict[str, set[str]] = defaultdict(set)
    missed = []
    kinds = list(kinds)
    one.chance.shuffle(kinds)
    with one:
        for kind in kinds:
            hit: set[str] = set()
            for _ in range(TRIES):
                if time.monotonic() - begin > seconds:
                    break
                try:
                    if one.someone() is None:
                        break
                    hit = one.strike(kind)
                except (OSError, subprocess.SubprocessError) as error:
                    print(f"{kind}: {error}", file=sys.stderr)
                if hit:
                    break
            if hit:
                times[kind] += 1
                victims[kind] |= hit
            else:
                missed.append(kind)
            time.sleep(one.chance.uniform(0.2, 1))
        one.mend(begin + seconds + 600)
    lost = {run for run in one.runs if is_lost(expected, one.lab.runs, run)}
    repeated: dict[str, list[float]] = defaultdict(list)
    for kind, again in one.watcher.repeated:
        repeated[kind].append(again)
    lines = [line for run in one.runs for line in read_lines(RunDirectory(one.lab.runs, run).attempts_file)]
    done = [run for run in one.runs if _times_done(RunDirectory(one.lab.runs, run)) > 1]
    return Damage(
        times=times,
        victims=victims,
        lost=lost,
        twice=one.watcher.twice | set(done),
        different={run for run in set(one.runs) - lost if differs(expected, one.lab.runs, run)},
        repeated=repeated,
        startup_seconds=startup,
        attempts=sum(line["event"] == "start" for line in lines),
        seconds=time.monotonic() - begin,
        missed=missed,
    )


def show(damage: Damage, runs: int, console: Console) -> None:
    """Print the table: a line per kind of fault, and what may be said of all together."""
    table = Table("fault", "times", "runs lost", "executed twice", "different", "repeated s: mean", "most")
    everything = [second for seconds in damage.repeated.values() for second in seconds]
    for kind in [*FAULTS, *(kind for kind in damage.repeated if kind not in FAULTS)]:
        hit = damage.victims.get(kind, set())
        counts = [str(len(hit & runs)) for runs in (damage.lost, damage.twice, damage.different)]
        table.add_row(kind, str(damage.times.get(kind, 0)), *counts, *_mean_and_most(damage.repeated.get(kind, [])))
    struck = sum(damage.times.values())
    totals = [str(len(runs)) for runs in (damage.lost, damage.twice, damage.different)]
    table.add_row("all", str(struck), *totals, *_mean_and_most(everything), style="bold")
    console.print(table)
    console.print(
        f"{struck} faults of {len(damage.times)} kinds on {runs} runs, {damage.attempts} attempts, "
        f"{damage.seconds:.0f} s; a fault may cost {damage.allowed_seconds:.1f} s of work: a checkpoint every "
        f"{CHECKPOINT_SECONDS:.0f} s, and {damage.startup_seconds:.1f} s to start a worker"
    )
    if damage.missed:
        console.print(f"found nothing to strike: {', '.join(damage.missed)}")


def _mean_and_most(seconds: Sequence[float]) -> tuple[str, str]:
    if not seconds:
        return "0.0", "0.0"
    return f"{sum(seconds) / len(seconds):.1f}", f"{max(seconds):.1f}"


def _times_done(directory: RunDirectory) -> int:
    return sum(line.get("outcome") == "done" for line in read_lines(directory.attempts_file))


def _startup_seconds() -> float:
    """How long a worker takes from its start to its first run, on this machine now."""
    begin = time.monotonic()
    subprocess.run([sys.executable, "-m", "sweeps.worker", "1"], stdin=subprocess.DEVNULL, check=True)
    return time.monotonic() - begin


def _small_file_system(place: Path, stack: ExitStack) -> bool:
    """A file system of its own at `place`, so that its filling up hurts nobody else; whether that was possible."""
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={FOLDER_MB}m", "tmpfs", place])
    if done.returncode == 0:
        stack.callback(subprocess.run, ["umount", "-l", place], check=True)
    return done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--each", type=int, default=5, help="how often each kind strikes")
    parser.add_argument("--kinds", nargs="*", default=list(FAULTS), choices=list(FAULTS), help="only these")
    parser.add_argument("--epochs", type=int, default=24, help="length of the runs")
    parser.add_argument("--seed", type=int, default=0, help="decides when, where and in which order")
    parser.add_argument("--seconds", type=float, default=1800, help="after which nothing is disturbed any more")
    parser.add_argument("--short", action="store_true", help="a study of five runs")
    arguments = parser.parse_args()
    if missing():
        print(missing(), file=sys.stderr)
        return 2
    words = [*STUDY, f"train.epochs={arguments.epochs}", *(SHORT if arguments.short else [])]
    console = Console(width=120)
    with tempfile.TemporaryDirectory(prefix="faults-") as name, ExitStack() as stack:
        folder = Path(name)
        (folder / "undisturbed").mkdir()
        expected = undisturbed(folder / "undisturbed", words)
        kinds = [kind for kind in arguments.kinds for _ in range(arguments.each)]
        if not _small_file_system(folder / "outputs", stack):
            kinds = [kind for kind in kinds if kind != "disk full"]
        cluster = stack.enter_context(Cluster())
        damage = campaign(cluster, folder, expected, [*words, *JOBS], kinds, arguments.seed, arguments.seconds)
        show(damage, len(list(expected.iterdir())), console)
    return 0 if damage.is_harmless and not damage.missed else 1


if __name__ == "__main__":
    sys.exit(main())
