"""A job on a node: `python -m sweeps.job <submission folder> <array>`, one task of a submission's array.

It takes the runs of its list one after another, in a worker process that it replaces when it dies, as a local
sweep does; what other jobs hold or have done it passes over, once it is clear that they live. Told by a signal that
it must end, it saves its run and adds to its attempts why. SIGUSR2 announces the time limit or a preemption. SIGTERM is
either of these where they came without a word, or a scancel, which must not bring the job back: SLURM is asked which.

Exit codes: 0 nothing is left to do here, 1 a run failed, or a scancel stopped it or what SLURM does not tell, 75 told
to end and to be queued again, which its batch script does, 76 nothing was saved in its time: it would need more.
"""

import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from types import FrameType

import submitit

from core.attempts import Attempt, Outcome
from core.environment import cores
from core.errors import Cause
from core.lease import OWN_STALE_SECONDS, STALE_SECONDS, is_overdue, slurm_job
from core.rundir import RunDirectory
from core.states import RunState, State, observe
from reports.manifest import MANIFEST_FILE
from sweeps.local import LocalLauncher, Work
from sweeps.slurm import why_told_to_end
from sweeps.submission import REQUEUE_CODE, TOO_SHORT_CODE, Submission, read

ROOT = Path(__file__).resolve().parent.parent
REFRESH_SECONDS = 0.2
MIRRORED_ALONE = 100
"""Runs of a job after which alone its mirror looks, with a question each; of more, it looks after the whole study."""
MIRROR_SECONDS = 10.0
"""How long the last synchronisation with an MLflow server may keep a job from ending; a stopped one not so long."""


def main(folder: Path, array: int) -> int:
    submission = read(folder)
    if submission is None:
        print(f"{folder}: no submission is there; does this node see the output folder?", file=sys.stderr)
        return 1
    if Path(submission.code).resolve() != ROOT:
        code = f"{folder}: submitted with the code in {submission.code}, but this is {ROOT}"
        print(f"{code}; launcher.setup and the Python must leave folder and path alone", file=sys.stderr)
        return 1
    stop = Stop(submission)
    environment = submitit.JobEnvironment()
    job = Job(submission, submission.work(submission.runs_of(array, int(environment.array_task_id or 0))))
    if environment.num_tasks > 1:
        from sweeps.ranks import execute_together  # brings torch, which else only the worker needs

        with _mirror(job, stop) if environment.global_rank == 0 else nullcontext(), stop.ignored_after():
            return execute_together(job, environment, stop)
    with _mirror(job, stop), stop.ignored_after():
        return job.execute(stop)


class Flag:
    """As threading.Event, whose `set` in a signal handler may wait for ever for a lock of what it interrupts."""

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        self._is_set = True

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, seconds: float = math.inf) -> bool:
        end = time.monotonic() + seconds
        while not self._is_set and (left := end - time.monotonic()) > 0:
            time.sleep(min(REFRESH_SECONDS, left))
        return self._is_set


class Stop:
    """Whether a signal asked this job to end, until when, why, and with which code it then does."""

    SAVING_SHARE = 2 / 3
    """Of the time between a signal and the end, what a run has to be saved; the rest is for all that ends after it."""
    ASKING_SHARE = 1 / 6
    """The same for a last synchronisation with MLflow, and for SLURM's answer."""

    def __init__(self, submission: Submission) -> None:
        self.event = Flag()
        self._submission = submission
        self._is_warned = False
        self._end = math.inf
        """When, by time.monotonic(), a run must be saved."""
        self.patience = MIRROR_SECONDS
        """Seconds for each of what is asked after that."""
        signal.signal(signal.SIGTERM, self._take)
        signal.signal(signal.SIGUSR2, self._take)

    def _take(self, number: int, frame: FrameType | None) -> None:
        is_warning = number == signal.SIGUSR2
        self._is_warned |= is_warning
        seconds = self._submission.signal_seconds if is_warning else self._submission.kill_seconds
        self._end = min(self._end, time.monotonic() + self.SAVING_SHARE * seconds)
        self.patience = min(self.patience, self.ASKING_SHARE * seconds)
        self.event.set()

    @contextmanager
    def ignored_after(self) -> Iterator[None]:
        """Once the exit code is settled signals change nothing; at its exit Python would let them end it instead."""
        yield
        for number in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)

    def seconds_left(self) -> float:
        """For a run to be saved in, once a signal came; another one may shorten it."""
        return self._end - time.monotonic()

    @cached_property
    def cause(self) -> Cause | None:
        """Why it was asked to; None where SLURM does not say."""
        if self._submission.is_cancelled(slurm_job()[0]):
            return Cause.CANCELLED
        told = why_told_to_end(*slurm_job(), self.patience)
        return Cause.TIMEOUT if self._is_warned and told != Cause.PREEMPTED else told

    def code(self, has_advanced: bool) -> int:
        """has_advanced: whether this job saved anything. One that used up its time for nothing would do so again."""
        if self.cause == Cause.TIMEOUT and not has_advanced:
            print("nothing was finished or saved in launcher.time: raise it", file=sys.stderr)
            return TOO_SHORT_CODE
        return REQUEUE_CODE if self.cause in (Cause.PREEMPTED, Cause.TIMEOUT) else 1


class Job:
    """The runs of one task, and what became of them here."""

    def __init__(self, submission: Submission, work: Sequence[Work]):
        self.submission = submission
        self.runs = submission.folder.parent.parent / "runs"
        self.work = work
        threads = int(os.environ.get("SLURM_CPUS_PER_TASK", 0)) or cores()
        self.machine = {**submission.machine, "machine.threads": submission.machine["machine.threads"] or threads}
        self.failed = 0
        self._seemed_dead_at: dict[str, float] = {}
        self._saved_before: dict[str, dict[Path, int]] = {}
        """What each run had when this job came to it; the runs of a job may be thousands, which it never looks at."""

    def code(self, stop: Stop) -> int:
        """The exit code of the job; where it was told to end, its unfinished attempts say why."""
        if not stop.event.is_set():
            return 1 if self.failed else 0
        if stop.cause is not None:
            for run in self._saved_before:
                self._note_stop(run, stop.cause)
        return stop.code(any(self._saved(run) != before for run, before in self._saved_before.items()))

    def _note_stop(self, run: str, cause: Cause) -> None:
        with suppress(OSError):  # a full disk, which is no reason to end otherwise
            attempt = Attempt.newest_of_this_job(RunDirectory(self.runs, run))
            if attempt is not None:
                attempt.stopped_for(cause, f"job {slurm_job()[0]} was told to end")

    def _saved(self, run: str) -> dict[Path, int]:
        """When what the run has was written."""
        directory = RunDirectory(self.runs, run)
        saved = {}
        with suppress(OSError):  # a network disk that is away must not keep a job from coming back
            for file in (directory.checkpoint_file, *directory.evaluations.glob("*.json")):
                if file.exists():
                    saved[file] = file.stat().st_mtime_ns
        return saved

    def execute(self, stop: Stop) -> int:
        """Execute all that is missing, in a worker process; the exit code."""
        launcher = LocalLauncher(
            self.runs,
            self.machine,
            workers=1,
            threads=self.machine["machine.threads"],
            gpus=[],  # the worker gets all that SLURM gives to the job
            retries=self.submission.retries,
            report=self.ended,
            pass_over=self.pass_over,
        )
        launcher.start(self.work)
        while not launcher.finished:
            if stop.event.wait(REFRESH_SECONDS):
                launcher.stop(stop.seconds_left)
                break
        return self.code(stop)

    def pass_over(self, work: Work) -> Outcome | None:
        """What is done, or another job's, or would only fail again, is left alone; to the rest this job comes."""
        outcome = self._left_alone(work)
        if outcome is None and work.id not in self._saved_before:
            self._saved_before[work.id] = self._saved(work.id)
        return outcome

    def _left_alone(self, work: Work) -> Outcome | None:
        state = observe(self.runs, work.id, work.evaluation_ids)
        if state.state == State.DONE:
            return Outcome("done")
        if state.state == State.RUNNING:
            # Waited for: an earlier attempt of this very job, which is about to die, and whoever seems to have died.
            is_own_past = (state.owner or {}).get("job") == slurm_job()[0]
            return None if is_own_past or self._seems_dead(work.id, state) else Outcome("held")
        if state.state == State.FAILED and not Cause(state.cause).can_pass:
            attempts = RunDirectory(self.runs, work.id).attempts_file
            if attempts.stat().st_mtime > self.submission.time:
                return Outcome("failed", state.cause, state.message)
        return None

    def _seems_dead(self, run: str, state: RunState) -> bool:
        """Whether its owner, on another host, does not renew its lease; not for longer than such a lease lives."""
        is_far = (state.owner or {}).get("host") != socket.gethostname()
        if not is_far or not is_overdue(RunDirectory(self.runs, run).lease_file, OWN_STALE_SECONDS):
            return False
        first_look = self._seemed_dead_at.setdefault(run, time.monotonic())
        return time.monotonic() - first_look < STALE_SECONDS

    def ended(self, run: str, outcome: Outcome) -> None:
        print(run, outcome.outcome, outcome.cause, outcome.message, flush=True)
        self.failed += outcome.outcome == "failed"


@contextmanager
def _mirror(job: Job, stop: Stop) -> Iterator[None]:
    """A process that writes this job's runs to the MLflow server while the job lives, if there is one to write to."""
    submission = job.submission
    only = ["--only", *(work.id for work in job.work)] if len(job.work) <= MIRRORED_ALONE else []
    if not submission.tracking_uri:
        yield
        return
    manifest = submission.folder.parent.parent / "reports" / submission.study / MANIFEST_FILE
    process = subprocess.Popen(
        [sys.executable, "-m", "sweeps.mirror", str(manifest), "--uri", submission.tracking_uri, *only],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(stop.patience)
        except subprocess.TimeoutExpired:
            process.terminate()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
