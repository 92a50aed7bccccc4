"""The live mirror: the process beside a sweep that keeps MLflow and the partial heatmap up to date.

    python -m sweeps.mirror outputs/reports/<study>/study.json... [--uri URI] [--partial-report]

It runs until its standard input is closed, then syncs once more and exits with 0, or with 1 if MLflow is
not up to date. Of several studies, which `action=status` names with an input that is closed from the start, it
takes one after another. It writes to no terminal: what goes wrong becomes a line of outputs/logs/mirror.log and is
tried again. It only reads run directories, at a low priority, so nothing in it can stop or slow training.
"""

import argparse
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path

from core.rundir import GROUP_MODE
from core.states import State, observe
from reports.manifest import MANIFEST_FILE, read
from sweeps.record import stamp
from sweeps.track import Tracker

TICK_SECONDS = 5.0
"""How often it looks for something to do."""
REPORT_SECONDS = 30.0
REST_FACTOR = 10
"""After a sync or a report it rests this many times as long as that took, so that it stays cheap for any study."""
LONGEST_REST = 60.0
NICENESS = 5
PARTIAL_FILES = ("table.csv", "figure.png")


class PartialReport:
    """The report of the runs that are finished so far, renewed when there are more of them.

    build: writes PARTIAL_FILES into the report folder.
    """

    def __init__(self, folder: Path, build: Callable[[Path], object], clock: Callable[[], float] = time.monotonic):
        self._folder = folder
        self._build = build
        self._clock = clock
        self._finished = 0
        self._next = float("-inf")
        self._own: list[str] = []

    def refresh(self) -> None:
        """Build if runs finished since, but not too often."""
        begin = self._clock()
        if begin < self._next:
            return
        rest = REPORT_SECONDS  # also after one that failed
        try:
            if not self._build_if_more():
                rest = 0.0
        finally:
            took = self._clock() - begin
            self._next = begin + took + max(rest, REST_FACTOR * took)

    def close(self) -> None:
        """Build once more where the newest files are this process's and lack a run.

        The sweep's own report, complete and maybe built during this one, is left as it is.
        """
        if any(mine and mine == now for mine, now in zip(self._own, self._stamps(), strict=False)):
            self._build_if_more()

    def _build_if_more(self) -> bool:
        """Whether there was more."""
        finished = self._count_finished()
        if finished == self._finished:
            return False
        self._finished = finished
        self._build(self._folder)
        self._own = self._stamps()
        return True

    def _stamps(self) -> list[str]:
        return [stamp(self._folder / name) for name in PARTIAL_FILES]

    def _count_finished(self) -> int:
        manifest = read(self._folder)
        runs = {planned.run: planned.evaluations for _, _, planned in manifest.planned()}
        states = (observe(manifest.runs_folder, run, evaluations).state for run, evaluations in runs.items())
        return sum(state == State.DONE for state in states)


def follow(
    sync: Callable[[], list[str]],
    report: PartialReport | None,
    ended: threading.Event,
    warn: Callable[[str], None],
    wanted: threading.Event | None = None,
) -> bool:
    """Sync and report until `ended` is set, and then once more; whether the last sync succeeded.

    wanted: set whenever the parent asks for a sync at once, and when it has ended.

    sync: brings MLflow up to date; returns a line for everything that it could not mirror.
    """
    warned: set[str] = set()
    wanted = wanted or threading.Event()

    def try_to(do: Callable[[], list[str] | None]) -> bool:
        try:
            problems = do() or []
        except Exception as error:
            problems = [f"{type(error).__name__}: {error}"]
        for problem in problems:
            if problem not in warned:
                warn(problem)
        warned.update(problems)
        return not problems

    next_sync = float("-inf")
    is_current = True
    while True:
        is_asked = wanted.is_set()
        wanted.clear()  # before `ended` is read: what is set from here on ends the wait below at once
        is_last = ended.is_set()
        if report is not None:
            try_to(report.close if is_last else report.refresh)
        begin = time.monotonic()
        if is_last or is_asked or begin >= next_sync:
            is_current = try_to(sync)
            took = time.monotonic() - begin
            next_sync = begin + took + min(LONGEST_REST, max(TICK_SECONDS, REST_FACTOR * took))
        if is_last:
            return is_current
        wanted.wait(TICK_SECONDS)


def build_partial(folder: Path) -> None:
    from reports.build import build

    build(folder, partial=True)


def main() -> int:
    arguments = _arguments()
    folders = [manifest.resolve().parent for manifest in arguments.manifests]
    _step_back(folders[0].parent.parent / "logs" / "mirror.log")
    ended = threading.Event()
    wanted = threading.Event()
    threading.Thread(target=_listen, args=(ended, wanted), daemon=True).start()
    is_current = True
    for folder in folders:
        sync = _sync_of(folder, arguments.uri, arguments.only) if arguments.uri else list
        report = PartialReport(folder, build_partial) if arguments.partial_report else None
        is_current &= follow(sync, report, ended, _warn, wanted)
    return 0 if is_current else 1


def _sync_of(folder: Path, uri: str, only: Collection[str]) -> Callable[[], list[str]]:
    tracker = Tracker(folder / MANIFEST_FILE, uri, only=only)
    return lambda: tracker.sync().problems


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sweeps.mirror", description=__doc__)
    parser.add_argument("manifests", type=Path, nargs="+", help="outputs/reports/<study>/study.json")
    parser.add_argument("--uri", default="", help="MLflow store or server; without it nothing is tracked")
    parser.add_argument("--only", nargs="+", default=(), help="ids of the runs to be tracked; all without it")
    parser.add_argument("--partial-report", action="store_true", help="renew the heatmap while runs finish")
    return parser.parse_args()


def _listen(ended: threading.Event, wanted: threading.Event) -> None:
    """Every line on stdin asks for a sync at once; its end asks for the last one."""
    with contextlib.suppress(OSError, ValueError):
        for _ in sys.stdin.buffer:
            wanted.set()
    ended.set()
    wanted.set()


def _step_back(log: Path) -> None:
    """Give way to training, leave Ctrl-C to the parent, and keep off its terminal."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    if os.getsid(0) == os.getpid():
        # Linux shares the processor between sessions first: the niceness of a session of its own counts.
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(NICENESS))
    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, GROUP_MODE)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _warn(problem: str) -> None:
    line = " ".join(problem.split())
    with contextlib.suppress(OSError):
        print(time.strftime("%Y-%m-%d %H:%M:%S"), line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
