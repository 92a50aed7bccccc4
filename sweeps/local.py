"""The local launcher: worker processes on this machine, and what happens when one of them dies.

One thread of the parent serves one worker process: it hands it a run, waits for the answer, and starts
another process when the worker died. A run whose worker was killed is taken up again, from its last
checkpoint, up to `retries` times. The parent itself imports no torch.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.attempts import Attempt, Outcome, last_line
from core.config import RunConfig
from core.errors import Cause, cause_of
from core.rundir import RunDirectory
from core.states import State, observe

GRACE_SECONDS = 3.5
"""Time for a worker to save its run after Ctrl-C; within the five seconds that a user waits."""
KILL_SECONDS = 0.5
"""Time for a killed worker to be gone."""
LOOK_SECONDS = 0.05
HELD_SECONDS = 0.5
"""Pause before looking again at a run that a worker of another sweep executes."""

Report = Callable[[str, Outcome], None]


@dataclass(frozen=True)
class Work:
    """One run for a worker."""

    id: str
    evaluations: Mapping[str, Mapping[str, Any]]
    """Name to full config, as a PlannedRun has it."""
    evaluation_ids: Mapping[str, str]
    config: RunConfig
    """What its directory is made from if it is not there."""


class LocalLauncher:
    """Executes runs in worker processes until none is left or `stop` is called."""

    def __init__(
        self,
        runs: Path,
        machine: Mapping[str, Any],
        *,
        workers: int,
        threads: int,
        gpus: Sequence[str],
        retries: int,
        report: Report,
        processes_per_run: int = 1,
        pass_over: Callable[[Work], Outcome | None] = lambda work: None,
    ):
        """
        pass_over: says of a run whether it is to be left alone, and as what it then counts.
        """
        self._runs = runs
        self._machine = {**machine, "machine.threads": machine["machine.threads"] or threads}
        self._threads = threads
        self._gpus = gpus
        self._retries = retries
        self._report = report
        self._processes_per_run = processes_per_run
        self._pass_over = pass_over
        self._queue: queue.SimpleQueue[Work] = queue.SimpleQueue()
        self._left = 0
        self._lock = threading.Lock()
        self._deaths: Counter[str] = Counter()
        self._stopping = threading.Event()
        self._processes: dict[int, subprocess.Popen[str]] = {}
        self._running: dict[int, Work] = {}
        self._servers = [threading.Thread(target=self._serve, args=(n,), daemon=True) for n in range(workers)]

    def start(self, runs: Sequence[Work]) -> None:
        self._left = len(runs)
        for run in runs:
            self._queue.put(run)
        for server in self._servers:
            server.start()

    @property
    def finished(self) -> bool:
        return not any(server.is_alive() for server in self._servers)

    @property
    def running(self) -> list[Work]:
        """The runs that workers execute now."""
        return list(self._running.values())

    def stop(self, seconds_left: Callable[[], float] | None = None) -> None:
        """Let every worker save its run and end; kill those that take too long.

        seconds_left: how long they may still take, asked again and again; without it GRACE_SECONDS in all.
        """
        self._stopping.set()
        for process in list(self._processes.values()):
            process.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        left = seconds_left or (lambda: deadline - time.monotonic())
        while not self.finished and (now := left()) > 0:
            time.sleep(min(LOOK_SECONDS, now))
        late = list(self._processes.values())
        for process in late:
            process.kill()
        for process in late:  # none outlives the sweep, unless its disk does not let it go
            with suppress(subprocess.TimeoutExpired):
                process.wait(KILL_SECONDS)

    def _serve(self, number: int) -> None:
        """Serve worker `number` until no run is left."""
        try:
            while (run := self._next()) is not None:
                try:
                    self._take(number, run)
                except Exception as error:  # a thread that ends here would leave its runs undone without a word
                    traceback.print_exc()
                    self._finish(run, Outcome("failed", cause_of(error), str(error)))
        finally:
            process = self._processes.pop(number, None)
            if process is not None:
                assert process.stdin is not None
                process.stdin.close()
                process.wait()

    def _take(self, number: int, run: Work) -> None:
        passed = self._pass_over(run)
        if passed is not None:
            self._finish(run, passed)
            return
        self._running[number] = run
        outcome = self._attempt(number, run)
        del self._running[number]
        self._handle(run, outcome)

    def _next(self) -> Work | None:
        """The next run; waits while others may still give one back; None when all are finished."""
        while not self._stopping.is_set():
            with self._lock:
                if self._left == 0:
                    return None
            try:
                return self._queue.get(timeout=0.2)
            except queue.Empty:
                continue
        return None

    def _attempt(self, number: int, run: Work) -> Outcome:
        """One attempt of worker `number`; whatever goes wrong here costs this run only."""
        try:
            outcome = self._ask(number, run)
        except Exception as error:
            traceback.print_exc()
            return Outcome("failed", cause_of(error), str(error))
        if outcome.outcome == "stopped" and not self._stopping.is_set():
            # Somebody else asked the worker to end; it does, with its run saved.
            self._processes.pop(number).wait()
            return Outcome("failed", Cause.PREEMPTED, "the worker was asked to stop")
        return outcome

    def _ask(self, number: int, run: Work) -> Outcome:
        """Have the worker execute the run. A worker that dies makes the outcome a failure."""
        RunDirectory.create(self._runs, run.config)
        process = self._processes.get(number)
        if process is None or process.poll() is not None:
            process = self._processes[number] = self._spawn(number)
            if self._stopping.is_set():  # since `stop` asked those that were there to end
                process.terminate()
        assert process.stdin is not None
        assert process.stdout is not None
        request = {
            "run": run.id,
            "runs_dir": str(self._runs),
            "evaluations": run.evaluations,
            "machine": self._machine,
        }
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except OSError:
            answer = ""
        if answer:
            fields = json.loads(answer)
            return Outcome(fields["outcome"], fields["cause"], fields["message"])
        return self._buried(process, run)

    def _buried(self, process: subprocess.Popen[str], run: Work) -> Outcome:
        """What became of a worker that ended without an answer; recorded in its run's directory."""
        code = process.wait()
        if self._stopping.is_set():
            return Outcome("stopped")
        if code < 0:
            message = f"worker ended by {signal.Signals(-code).name}"
            if code == -signal.SIGKILL:
                message += " (too little memory is the usual reason)"
            outcome = Outcome("failed", Cause.KILLED, message)
        else:
            outcome = Outcome("failed", Cause.CODE_ERROR, f"worker ended with exit code {code}; see its log")
        last = last_line(RunDirectory(self._runs, run.id).attempts_file)
        if last.get("event") == "start" and last.get("pid") == process.pid:
            Attempt(RunDirectory(self._runs, run.id), last["attempt"]).end(outcome)
        return outcome

    def _handle(self, run: Work, outcome: Outcome) -> None:
        """Count the run as finished, or put it back."""
        if outcome.outcome == "held":
            self._wait_for_other(run)
            return
        if outcome.outcome == "failed" and Cause(outcome.cause).can_pass:
            self._deaths[run.id] += 1
            if self._deaths[run.id] <= self._retries:
                self._queue.put(run)
                return
        self._finish(run, outcome)

    def _finish(self, run: Work, outcome: Outcome) -> None:
        with self._lock:
            self._left -= 1
        if outcome.outcome != "stopped":
            try:
                self._report(run.id, outcome)
            except Exception:
                traceback.print_exc()  # what watches can not stop the sweep

    def _wait_for_other(self, run: Work) -> None:
        """Another sweep's worker has the run: look again later, and take the run over if that one dies."""
        while not self._stopping.is_set():
            passed = self._pass_over(run)
            if passed is not None:
                self._finish(run, passed)
                return
            state = observe(self._runs, run.id, run.evaluation_ids)
            if state.state == State.DONE:
                self._handle(run, Outcome("done"))
                return
            if state.state == State.FAILED and not Cause(state.cause).can_pass:
                self._handle(run, Outcome("failed", state.cause, state.message))
                return
            if state.state != State.RUNNING:
                self._queue.put(run)
                return
            if not self._queue.empty():
                # Something else can be done meanwhile.
                self._queue.put(run)
                time.sleep(0.05)
                return
            time.sleep(HELD_SECONDS)

    def _spawn(self, number: int) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(self._threads),
            "MKL_NUM_THREADS": str(self._threads),
        }
        if self._gpus:
            first = number * self._processes_per_run
            own = [self._gpus[(first + rank) % len(self._gpus)] for rank in range(self._processes_per_run)]
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(dict.fromkeys(own))
        return subprocess.Popen(
            [sys.executable, "-m", "sweeps.worker", str(self._processes_per_run)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches the parent only, which then stops its workers
        )
