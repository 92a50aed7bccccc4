"""Several processes for one run: those beside a local worker, and those of a SLURM job.

    python -m sweeps.ranks HOST PORT RANK SIZE      a follower of the worker that serves HOST:PORT

Every attempt of a job, and every worker, meets at an address of its own, so that none finds the
rendezvous of one that died.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from core.attempts import Outcome
from core.distributed import Group
from core.errors import cause_of
from core.execute import execute, follow
from core.lease import slurm_job
from core.rundir import RunDirectory, read_json, write_json
from sweeps.local import HELD_SECONDS, Work
from sweeps.submission import REQUEUE_CODE
from sweeps.worker import output_to

if TYPE_CHECKING:
    from sweeps.job import Job, Stop

MEET_SECONDS = 300.0
"""How long the processes of a job wait for its first one to say where they meet."""
LOOK_SECONDS = 0.2
SIGNAL_SECONDS = 5.0
"""How much later a signal may come to the first process of a job than to another one."""


def lead(size: int) -> Group:
    """The group of this process and `size` - 1 followers that it starts.

    A follower that dies takes this process with it: whoever started it replaces them all.
    """
    group, port = Group.lead(size)
    for rank in range(1, size):
        command = [sys.executable, "-m", "sweeps.ranks", "127.0.0.1", str(port), str(rank), str(size)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        threading.Thread(target=_die_with, args=(process,), daemon=True).start()
    return group


def _die_with(process: subprocess.Popen[bytes]) -> None:
    if process.wait():
        os.kill(os.getpid(), signal.SIGKILL)


def execute_together(job: "Job", environment: Any, stop: "Stop") -> int:
    """The runs of a job by all its processes together; the exit code of this one."""
    place = job.submission.folder / "rendezvous" / "{}.{}.json".format(*slurm_job())
    if environment.global_rank > 0:
        address = _wait_for(lambda: read_json(place))
        group = Group.join(
            environment.global_rank, environment.num_tasks, address["host"], address["port"], environment.local_rank
        )
        follow(group, stop.event.is_set)
        return 0
    host = socket.gethostname()
    group, port = Group.lead(environment.num_tasks, host)
    write_json(place, {"host": host, "port": port})
    said = os.dup(2)  # during a run, what is said goes to its own log
    threading.Thread(target=_end_in_time, args=(job, stop, group, said), daemon=True).start()
    for work in job.work:
        outcome = job.pass_over(work)
        if outcome is None:
            outcome = _execute(job, work, stop, group)
        job.ended(work.id, outcome)
        # All processes stop where one is told to, and the signal may come to this one later, or not at all.
        is_stopped = outcome.outcome == "stopped"
        if stop.event.wait(SIGNAL_SECONDS if is_stopped else 0):
            break
        if is_stopped:
            group.announce(None)
            return REQUEUE_CODE
    group.announce(None)
    return job.code(stop)


def _end_in_time(job: "Job", stop: "Stop", group: Group, said: int) -> None:
    """End the processes where a stop finds this one in an evaluation, which looks for one only at its end."""
    code = 1
    try:
        stop.event.wait()
        while (left := stop.seconds_left()) > 0:
            time.sleep(min(LOOK_SECONDS, left))
        os.dup2(said, 2)
        group.announce(None)
        code = job.code(stop)
    finally:
        os._exit(code)


def _execute(job: "Job", work: Work, stop: "Stop", group: Group) -> Outcome:
    """One attempt; waits while the run is held by an owner that a job waits for."""
    try:
        directory = RunDirectory.create(job.runs, work.config)
        with output_to(directory.log_file):
            while True:
                outcome = execute(directory, work.evaluations, job.machine, stop.event.is_set, group)
                if outcome.outcome != "held" or job.pass_over(work) is not None or stop.event.wait(HELD_SECONDS):
                    return outcome
    except OSError as error:
        return Outcome("failed", cause_of(error), str(error))


def _wait_for(look: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + MEET_SECONDS
    while (found := look()) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the first process of the job said nothing within {MEET_SECONDS:.0f} s")
        time.sleep(LOOK_SECONDS)
    return found


def main() -> None:
    host, port, rank, size = sys.argv[1:]
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, lambda *_: stopping.set())
    try:
        follow(Group.join(int(rank), int(size), host, int(port)), stopping.is_set)
    except RuntimeError:
        sys.exit("the leader is gone")


if __name__ == "__main__":
    main()
