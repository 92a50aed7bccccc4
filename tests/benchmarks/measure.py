"""How the benchmarks measure and show: contenders in turns, medians with their spread, ratios round by round.

Invariant: a ratio compares two turns of one round, seconds apart, so that whatever else runs on the machine meets both.
Processor time (of this process and its children) stands beside wall time, since it hardly feels other programs.
"""

import csv
import gc
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil

from core.environment import cores, cpu_model, source_version

ROOT = Path(__file__).resolve().parent.parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
"""For commands in other folders, whichever copy of the packages is installed."""
OURS = "ours"
PACKAGES = ("torch", "torchvision", "numba", "lightly", "pytorch-lightning", "kornia", "scikit-learn")


@dataclass(frozen=True)
class Turn:
    """What one turn of a contender did: an amount of work, in how many seconds of wall and processor time."""

    work: float
    wall: float
    cpu: float


Contender = Callable[[], float | Turn]
"""Does some work and returns how much, or times itself where it has to get ready first."""


@dataclass(frozen=True)
class Line:
    """One line of the table: a value per round, and ours over it (`ratios`), by wall and by processor time."""

    benchmark: str
    case: str
    contender: str
    unit: str
    values: tuple[float, ...]
    cpu_values: tuple[float, ...] = ()
    ratios: tuple[float, ...] = ()
    cpu_ratios: tuple[float, ...] = ()
    note: str = ""


def compare(
    benchmark: str,
    case: str,
    unit: str,
    contenders: Mapping[str, Contender],
    rounds: int,
    seconds: float = 0.0,
    warm: bool = False,
) -> list[Line]:
    """A line for each contender, in work per second; each works for at least `seconds` in a turn.

    The first turn of each does not count, unless they are `warm`. Ratios are those of the contender called `ours`.
    """
    turns: dict[str, list[Turn]] = {name: [] for name in contenders}
    if not warm:
        for contender in contenders.values():
            contender()
    for _ in range(rounds):
        for name, contender in contenders.items():
            turns[name].append(take_turn(contender, seconds))
    rates = {name: tuple(turn.work / turn.wall for turn in own) for name, own in turns.items()}
    cpu_rates = {name: tuple(turn.work / max(turn.cpu, 1e-3) for turn in own) for name, own in turns.items()}

    def ratios(all_: dict[str, tuple[float, ...]], name: str) -> tuple[float, ...]:
        if name == OURS or OURS not in all_:
            return ()
        return tuple(own / other for own, other in zip(all_[OURS], all_[name], strict=True))

    return [
        Line(benchmark, case, name, unit, rates[name], cpu_rates[name], ratios(rates, name), ratios(cpu_rates, name))
        for name in contenders
    ]


def take_turn(contender: Contender, seconds: float) -> Turn:
    gc.collect()
    begin, cpu, work = time.perf_counter(), cpu_seconds(), 0.0
    while True:
        done = contender()
        if isinstance(done, Turn):
            return done
        work += done
        wall = time.perf_counter() - begin
        if wall >= seconds:
            return Turn(work, wall, cpu_seconds() - cpu)


def timed(commands: Sequence[Sequence[str]], work: float, folder: Path) -> Turn:
    """Commands, each a process of its own, one after another.

    Raises: RuntimeError with the end of what a command said that failed.
    """
    begin, cpu = time.perf_counter(), cpu_seconds()
    for command in commands:
        done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError((done.stdout + done.stderr)[-2000:])
    return Turn(work, time.perf_counter() - begin, cpu_seconds() - cpu)


def cpu_seconds() -> float:
    """What this process and its children have used so far."""
    process = psutil.Process()
    total = 0.0
    for each in (process, *process.children(recursive=True)):
        try:
            times = each.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total + process.cpu_times().children_user + process.cpu_times().children_system


def spread(values: Iterable[float], digits: str) -> str:
    """Median, least and most."""
    ordered = sorted(values)
    if not ordered:
        return ""
    if len(ordered) == 1:
        return f"{ordered[0]:{digits}}"
    return f"{statistics.median(ordered):{digits}} ({ordered[0]:{digits}} to {ordered[-1]:{digits}})"


HEADER = f"{'case':34} {'contender':26} {'n':>2}  {'per second':32} {'per CPU second':30} {'ours is':24} by CPU time"


def shown(line: Line) -> str:
    """The line as text."""
    digits = ",.0f" if max(line.values, default=0) >= 100 else ".3g"
    columns = [
        f"{line.case:34} {line.contender:26} {len(line.values):2d}",
        f"{spread(line.values, digits) + ' ' + line.unit:32}",
        f"{spread(line.cpu_values, digits):30}",
        f"{spread(line.ratios, '.2f'):24}",
        spread(line.cpu_ratios, ".2f"),
        line.note,
    ]
    return "  ".join(columns).rstrip()


def write_csv(path: Path, lines: Iterable[Line]) -> None:
    """One row for each line, with the circumstances in which it was measured."""
    commit, dirty = source_version()
    versions = " ".join(f"{name}={_version(name)}" for name in PACKAGES)
    circumstances = {
        "commit": commit + ("+" if dirty else ""),
        "time": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "cpu": cpu_model(),
        "cores": cores(),
        "load": round(psutil.getloadavg()[0], 1),
        "versions": versions,
    }
    with path.open("w", newline="") as file:
        writer: csv.DictWriter | None = None
        for line in lines:
            row: dict[str, object] = {
                "benchmark": line.benchmark,
                "case": line.case,
                "contender": line.contender,
                "unit": line.unit,
                "n": len(line.values),
            }
            for name in ("values", "cpu_values", "ratios", "cpu_ratios"):
                numbers = getattr(line, name)
                for what, function in (("median", statistics.median), ("least", min), ("most", max)):
                    row[f"{name}_{what}"] = f"{function(numbers):.6g}" if numbers else ""
            row |= {"note": line.note, **circumstances}
            if writer is None:
                writer = csv.DictWriter(file, row)
                writer.writeheader()
            writer.writerow(row)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"
