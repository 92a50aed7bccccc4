"""The faults: everything that goes wrong on a cluster, done on purpose to a study that runs on one."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable

import psutil

from core.lease import boot_id, holder
from core.rundir import RunDirectory
from tests.slurm.cluster import NODES, START_SECONDS, free_ports
from tests.slurm.lab import Lab
from tests.slurm.watcher import Watcher

JOBS = 3
"""Jobs that a submission has, at most."""
REPEAT_SECONDS = 10.0
"""How often the user looks whether something should be submitted again."""


class Disturber:
    """A study on a cluster, and ways to hurt it. Every fault returns the runs that it struck."""

    def __init__(self, lab: Lab, runs: Iterable[str], seed: int, has_server: bool):
        """has_server: whether the jobs write to an MLflow server, which costs a process per job."""
        self.lab = lab
        self._has_server = has_server
        self.cluster = lab.cluster
        self.runs = sorted(runs)
        self.chance = random.Random(seed)
        self.watcher = Watcher(lab.runs)
        self._port = free_ports(1)[0]
        self._server: subprocess.Popen[bytes] | None = None
        self._looked = 0.0

    def __enter__(self) -> "Disturber":
        if self._has_server:
            self._start_server()
        self.watcher.start()
        self.submit().wait(START_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self.watcher.ended.set()
        self.watcher.join()
        self._stop_server()

    def strike(self, kind: str) -> set[str]:
        """One fault of a kind; the runs that it struck, none if it found nothing to strike."""
        hit = FAULTS[kind](self)
        self.watcher.strike(kind, hit)
        return hit

    # The user

    def submit(self) -> subprocess.Popen[bytes]:
        share = -(-len(self.runs) // JOBS)
        tracking = f"tracking.uri=http://127.0.0.1:{self._port}" if self._has_server else "tracking.enabled=false"
        return self.lab.start(f"launcher.runs_per_job={share}", tracking)

    def look_after(self) -> None:
        """Submit again where a job is gone and runs are missing, as a user does who looks in now and then."""
        with contextlib.suppress(subprocess.SubprocessError):
            self.cluster.hurry()
            jobs = len(self.cluster.jobs())
            if jobs < JOBS and self.missing() and time.monotonic() - self._looked > REPEAT_SECONDS:
                self.submit().wait(120)
                self._looked = time.monotonic()

    def mend(self, deadline: float) -> None:
        """Look after the study until all is done, or until a moment of time.monotonic()."""
        while (self.missing() or self.cluster.jobs()) and time.monotonic() < deadline:
            self.look_after()
            time.sleep(0.5)

    def missing(self) -> list[str]:
        return [run for run in self.runs if not RunDirectory(self.lab.runs, run).result_file.exists()]

    def someone(self) -> RunDirectory | None:
        """A run that is being trained, waited for; None if all runs are done."""
        deadline = time.monotonic() + 4 * START_SECONDS
        while self.missing():
            found = self.lab.training()
            if found:
                return self.chance.choice(sorted(found, key=lambda run: run.id))
            self.look_after()
            if time.monotonic() > deadline:
                queue = self.cluster.call("squeue", "--noheader", "--array", "--format=%i %T %r")
                nodes = self.cluster.call("sinfo", "--noheader", "--Node", "--long")
                raise TimeoutError(f"nothing runs; queue: {queue}; nodes: {nodes}")
            time.sleep(0.5)
        return None

    # Faults of the scheduler

    def scancel(self) -> set[str]:
        return self._on_job("scancel")

    def time_limit(self) -> set[str]:
        """The limit strikes at once, without the warning."""
        return self._on_job("scontrol", "update", "timelimit=00:00:01", job="jobid=")

    def warning(self) -> set[str]:
        """The signal that comes before a time limit or a preemption."""
        return self._on_job("scancel", "--signal=USR2")

    def preempt(self) -> set[str]:
        hit = self._all()
        self.cluster.preempt(self.lab.folder / "urgent.sh")
        return hit

    def node_down(self) -> set[str]:
        node, hit = self._some_node()
        self.cluster.crash(node)
        self.cluster.resume(node)
        return hit

    def kill_slurmd(self) -> set[str]:
        node, hit = self._some_node()
        self.cluster.kill_slurmd(node)
        time.sleep(1)
        self.cluster.start_slurmd(node)
        return hit

    def restart_controller(self) -> set[str]:
        self.cluster.restart_slurmctld()
        return self._all()

    def two_submitters(self) -> set[str]:
        hit = self._all()
        both = [self.submit(), self.submit()]
        codes = [one.wait(120) for one in both]
        return hit if codes == [0, 0] else set()

    # Faults of processes

    def kill_worker(self) -> set[str]:
        return self._on_worker(lambda worker: worker.kill())

    def kill_job(self) -> set[str]:
        return self._on_worker(lambda worker: worker.parent().kill())  # type: ignore[union-attr]

    # Faults of files

    def truncate_checkpoint(self) -> set[str]:
        return self._damage(lambda run: os.truncate(run.checkpoint_file, run.checkpoint_file.stat().st_size // 2))

    def half_a_line(self) -> set[str]:
        def append(run: RunDirectory) -> None:
            with open(run.journal_file, "ab") as file:
                file.write(b'{"event": "step", "st')

        return self._damage(append)

    def dead_lease(self) -> set[str]:
        """The lease of a process that is gone, on a run that nobody executes."""
        idle = [run for run in self.missing() if holder(RunDirectory(self.lab.runs, run).lease_file) is None]
        if not idle:
            return set()
        dead = subprocess.Popen(["true"])
        dead.wait()
        directory = RunDirectory(self.lab.runs, self.chance.choice(idle))
        owner = {"host": os.uname().nodename, "boot": boot_id(), "pid": dead.pid, "started": 1, "job": "", "restart": 0}
        directory.path.mkdir(parents=True, exist_ok=True)
        directory.lease_file.write_text(json.dumps({**owner, "time": time.time()}))
        return {directory.id}

    def full_disk(self) -> set[str]:
        """The output folder has no room for two seconds."""
        hit = self._all()
        filler = self.lab.folder / "outputs" / "filler"
        try:
            with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(2**20))
            time.sleep(2)
        finally:
            filler.unlink()
        return hit

    # A fault of the server

    def stop_mlflow(self) -> set[str]:
        hit = self._all()
        self._stop_server()
        time.sleep(1)
        self._start_server()
        return hit

    # Aims

    def _all(self) -> set[str]:
        return {run.id for run in self.lab.training()}

    def _some_node(self) -> tuple[str, set[str]]:
        """A node, and the runs that are trained on it; one with runs where there is one."""
        lines = self.cluster.call("squeue", "--noheader", "--states=RUNNING", "--format=%F_%K %N").splitlines()
        places = dict(line.split() for line in lines if line.count(" ") == 1)
        runs: dict[str, set[str]] = {}
        for run in self.lab.training():
            node = places.get((holder(run.lease_file) or {}).get("job", ""))
            if node:
                runs.setdefault(node, set()).add(run.id)
        node = self.chance.choice(sorted(runs) or NODES)
        return node, runs.get(node, set())

    def _on_job(self, *command: str, job: str = "") -> set[str]:
        """Have SLURM do something to the job that trains a run; `job` is written before its number."""
        one = self.someone()
        owner = holder(one.lease_file) if one else None
        if one is None or owner is None or not owner["job"]:
            return set()
        try:
            self.cluster.call(command[0], *command[1:2], f"{job}{owner['job']}", *command[2:])
        except subprocess.CalledProcessError:
            return set()
        return {one.id}

    def _on_worker(self, act: Callable[[psutil.Process], object]) -> set[str]:
        one = self.someone()
        owner = holder(one.lease_file) if one else None
        if one is None or owner is None:
            return set()
        try:
            act(psutil.Process(owner["pid"]))
        except psutil.Error:
            return set()
        return {one.id}

    def _damage(self, act: Callable[[RunDirectory], None]) -> set[str]:
        """Kill the worker of a run, and damage a file of it before another worker takes it up."""
        one = self.someone()
        owner = holder(one.lease_file) if one else None
        if one is None or owner is None or not one.checkpoint_file.exists():
            return set()
        try:
            worker = psutil.Process(owner["pid"])
            parent = worker.parent()
            assert parent is not None
            parent.suspend()  # it would replace the worker before the damage is done
        except psutil.Error:
            return set()
        try:
            worker.kill()
            while worker.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.01)
            act(one)
        finally:
            parent.resume()
        return {one.id}

    # MLflow

    def _start_server(self) -> None:
        store = ["--backend-store-uri", f"sqlite:///{self.lab.folder}/mlflow.db"]
        store += ["--artifacts-destination", str(self.lab.folder / "artifacts")]
        self._server = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--port", str(self._port), "--workers", "1", *store],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        )  # fmt: skip

    def _stop_server(self) -> None:
        if self._server is not None:
            os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait()
            self._server = None


FAULTS: dict[str, Callable[[Disturber], set[str]]] = {
    "scancel": Disturber.scancel,
    "SIGKILL of the training process": Disturber.kill_worker,
    "SIGKILL of the job's process": Disturber.kill_job,
    "SIGKILL of slurmd": Disturber.kill_slurmd,
    "preemption by the urgent partition": Disturber.preempt,
    "time limit, without warning": Disturber.time_limit,
    "warning of a time limit": Disturber.warning,
    "node set down": Disturber.node_down,
    "slurmctld killed and restarted": Disturber.restart_controller,
    "MLflow server stopped and started": Disturber.stop_mlflow,
    "checkpoint truncated": Disturber.truncate_checkpoint,
    "half a line in the journal": Disturber.half_a_line,
    "lease left by a dead process": Disturber.dead_lease,
    "disk full": Disturber.full_disk,
    "two submitters at once": Disturber.two_submitters,
}
