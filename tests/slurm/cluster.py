"""A private SLURM cluster on loopback: controller, accounting and three nodes, all on this machine.

Ports and files are its own, so nothing of the machine's configuration is touched and two clusters could
run side by side. Whatever it started ends with `stop`. Needs root and the Debian packages of `PACKAGES`.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from tests.commandline import eventually

PACKAGES = "slurm-wlm munge slurmdbd mariadb-server"
NODES = ("n1", "n2", "n3")
PROGRAMS = ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd", "mariadb-install-db", "sbatch", "sacctmgr")
START_SECONDS = 60.0
AFTER_REQUEUE = timedelta(seconds=4)

SLURM_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=2
CredType=cred/munge
SlurmctldPort={ctld}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerNode=2000
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1,sched_min_interval=0,preempt_send_user_signal
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=3
MinJobAge=300
MaxArraySize={max_array}
MaxJobCount=50000
SlurmctldTimeout=30
SlurmdTimeout=30
SlurmdParameters=config_overrides
InactiveLimit=0
ReturnToService=2
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
JobAcctGatherParams=OverMemoryKill
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd}
AccountingStoragePass={folder}/munge.socket
AccountingStorageEnforce=associations
NodeName=DEFAULT CPUs={cpus} RealMemory=6000 State=UNKNOWN
{nodes}
PartitionName=DEFAULT Nodes=ALL LLN=YES MaxTime=1-00:00:00 State=UP
PartitionName=main Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=3
PartitionName=spot PriorityTier=1 PreemptMode=CANCEL
PartitionName=urgent PriorityTier=10 PreemptMode=OFF
"""

SLURMDBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={dbd}
SlurmUser=root
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={mysql}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
"""


def missing() -> str:
    """Why there can be no cluster here, and what to do; empty where there can."""
    if os.geteuid() != 0:
        return "the tests on a real SLURM cluster need root"
    absent = [program for program in PROGRAMS if _which(program) is None]
    if absent:
        return f"no {', '.join(absent)}: apt-get install -y {PACKAGES}"
    return ""


class Cluster:
    """The cluster; `env` is the environment in which sbatch and the others talk to it."""

    def __init__(self, max_array: int = 1001, cpus: int = 4):
        # Short, because the paths of sockets are limited to about 100 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.folder.chmod(0o755)
        ports = free_ports(3 + len(NODES))
        self._values: dict[str, Any] = {
            "folder": self.folder,
            "host": socket.gethostname(),
            "ctld": ports[0],
            "dbd": ports[1],
            "mysql": ports[2],
            "max_array": max_array,
            "cpus": cpus,
            "nodes": "\n".join(
                f"NodeName={node} NodeHostname={socket.gethostname()} NodeAddr=127.0.0.1 Port={port}"
                for node, port in zip(NODES, ports[3:], strict=True)
            ),
        }
        self.env = {**os.environ, "PATH": _path(), "SLURM_CONF": str(self.folder / "slurm.conf")}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Cluster":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Raises: TimeoutError, naming what did not start and where its log is."""
        for name, text in (("slurm.conf", SLURM_CONF), ("slurmdbd.conf", SLURMDBD_CONF)):
            (self.folder / name).write_text(text.format(**self._values))
        (self.folder / "slurmdbd.conf").chmod(0o600)
        for name in ("state", *(f"spool.{node}" for node in NODES)):
            (self.folder / name).mkdir()
        self._start_munge()
        self._start_database()
        self._begin("slurmdbd", "slurmdbd", "-D")
        self.wait(lambda: self._try("sacctmgr", "-i", "add", "cluster", "test"), what="slurmdbd")
        self.call("sacctmgr", "-i", "add", "account", "lab", "cluster=test")
        self.call("sacctmgr", "-i", "add", "user", "root", "account=lab")
        self.start_slurmctld("-c")
        for node in NODES:
            self.start_slurmd(node)
        self.wait(lambda: self.call("sinfo", "-h", "-o", "%T %D") == f"idle {len(NODES)}", what="three idle nodes")

    def stop(self) -> None:
        """End everything that was started, jobs included, and remove all files."""
        if "slurmctld" in self._processes:
            with contextlib.suppress(subprocess.SubprocessError):
                subprocess.run(["scancel", "--full", "-u", "root"], env=self.env, capture_output=True, timeout=10)
        steps = [process for process in psutil.process_iter() if self._is_of_a_job(process)]
        for name in reversed(list(self._processes)):
            process = self._processes.pop(name)
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for process in steps:
            with contextlib.suppress(psutil.Error):
                process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def call(self, *command: str) -> str:
        """The output of a SLURM command. Raises: subprocess.CalledProcessError."""
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout.strip()

    def wait(self, look: Callable[[], Any], seconds: float = START_SECONDS, what: str = "it") -> Any:
        """What `look` finds, as soon as it finds something. Raises: TimeoutError."""
        return eventually(look, seconds, f"{what} (logs in {self.folder})")

    def jobs(self) -> dict[str, str]:
        """State of every task in the queue, by `<array job>_<index>` or job number."""
        lines = self.call("squeue", "--noheader", "--array", "--format=%F_%K %T").splitlines()
        return {identity.removesuffix("_N/A"): state for identity, state in map(str.split, lines)}

    def clear(self) -> None:
        """Cancel what is in the queue, and wait until it is empty."""
        for job in {identity.partition("_")[0] for identity in self.jobs()}:
            self._try("scancel", "--signal=KILL", "--full", job)
            self._try("scancel", job)
        self.wait(lambda: not self.jobs(), what="an empty queue")

    def states(self) -> dict[str, str]:
        """How every task ended or is, from the accounting."""
        lines = self.call("sacct", "-n", "-P", "-X", "-o", "JobID,State").splitlines()
        return {identity: state.split()[0] for identity, state in (line.split("|") for line in lines)}

    # Faults

    def start_slurmd(self, node: str) -> None:
        self._begin(f"slurmd {node}", "slurmd", "-D", "-N", node)

    def kill_slurmd(self, node: str) -> None:
        """SIGKILL of a node's daemon; its jobs' own processes stay."""
        process = self._processes.pop(f"slurmd {node}")
        process.kill()
        process.wait()

    def crash(self, node: str) -> None:
        """The node goes down with all processes of its jobs, which SLURM queues again as node failures."""
        self.call("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
        left = [process for process in psutil.process_iter() if self._is_of_a_job(process, node)]
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        self.wait(lambda: not any(map(psutil.Process.is_running, left)), 30, f"the end of the processes of {node}")
        time.sleep(1)  # slurmstepd tells slurmd; a job that came back meanwhile would be refused as its own double

    def preempt(self, script: Path) -> None:
        """All jobs make room for an urgent one on all nodes, whose end is waited for; its `script` is written there."""
        script.write_text("#!/bin/sh\nsleep 2\n")
        job = self.call("sbatch", "--parsable", "-p", "urgent", "--exclusive", "-N3", "-o", "/dev/null", str(script))
        self.wait(lambda: {job, f"{job}_N/A"}.isdisjoint(self.jobs()), 120, "the end of the urgent job")

    def resume(self, node: str) -> None:
        self._try("scontrol", "update", f"nodename={node}", "state=resume")  # refused if it came back by itself
        self.wait(lambda: "down" not in self.call("sinfo", "-h", "-N", "-n", node, "-o", "%T"), what=f"{node} up")

    def start_slurmctld(self, *options: str) -> None:
        self._begin("slurmctld", "slurmctld", "-D", *options)
        self.wait(lambda: self._try("scontrol", "ping") and "UP" in self.call("scontrol", "ping"), what="slurmctld")

    def restart_slurmctld(self) -> None:
        process = self._processes.pop("slurmctld")
        process.kill()
        process.wait()
        self.start_slurmctld()

    def hurry(self) -> None:
        """As time and an administrator would: start soon what SLURM holds back for two minutes after a requeue, release
        what it holds for good, and bring back a node that it drained because a job met its own past there.

        Not at once: a job that comes back within `cred_expire` meets a credential that is revoked, and is lost.
        """
        for line in self.call("sinfo", "--noheader", "-N", "--format=%N %E").splitlines():
            node, reason = line.split(maxsplit=1)
            if reason == "Duplicate jobid":
                self._try("scontrol", "update", f"nodename={node}", "state=resume")
        for line in self.call("squeue", "--noheader", "--array", "--states=PENDING", "--format=%A %V %r").splitlines():
            job, queued, reason = line.split(maxsplit=2)
            if reason == "BeginTime" and datetime.fromisoformat(queued) < datetime.now() - AFTER_REQUEUE:
                self._try("scontrol", "update", f"jobid={job}", "starttime=now")
            elif "held" in reason.lower():
                self._try("scontrol", "release", job)

    # Parts

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        self._begin(
            "munged",
            "munged",
            "--foreground",
            "--force",
            f"--key-file={key}",
            f"--socket={self.folder}/munge.socket",
            f"--pid-file={self.folder}/munged.pid",
            f"--log-file={self.folder}/munged.log",
            f"--seed-file={self.folder}/munged.seed",
        )
        self.wait((self.folder / "munge.socket").exists, what="munged")

    def _start_database(self) -> None:
        data, place = self.folder / "mysql", self.folder / "mysql.socket"
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--user=root", "--skip-test-db"],
            env=self.env, capture_output=True, check=True, timeout=START_SECONDS,
        )  # fmt: skip
        self._begin(
            "mariadbd",
            "mariadbd",
            "--no-defaults",
            "--user=root",
            f"--datadir={data}",
            f"--socket={place}",
            f"--port={self._values['mysql']}",
            "--bind-address=127.0.0.1",
            "--innodb-flush-log-at-trx-commit=0",
            f"--pid-file={self.folder}/mariadbd.pid",
        )
        sql = (
            "CREATE DATABASE slurm_acct_db; CREATE USER slurm@'127.0.0.1' IDENTIFIED BY 'slurm';"
            " CREATE USER slurm@localhost IDENTIFIED BY 'slurm'; GRANT ALL ON slurm_acct_db.* TO slurm@'127.0.0.1';"
            " GRANT ALL ON slurm_acct_db.* TO slurm@localhost;"
        )
        self.wait(lambda: self._try("mariadb", "--no-defaults", f"--socket={place}", "-e", sql), what="mariadbd")

    def _begin(self, name: str, *command: str) -> None:
        log = open(self.folder / f"{name.replace(' ', '.')}.out", "ab")  # noqa: SIM115 - the process keeps it
        with log:
            self._processes[name] = subprocess.Popen(
                command, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
                start_new_session=True,
            )  # fmt: skip

    def _try(self, *command: str) -> bool:
        return subprocess.run(command, env=self.env, capture_output=True, timeout=30).returncode == 0

    def _is_of_a_job(self, process: psutil.Process, node: str = "") -> bool:
        """Whether a process belongs to a job of this cluster (on a node), or watches over one (slurmstepd)."""
        try:
            name, place, environment = process.name(), process.cwd(), process.environ()
        except psutil.Error:
            return False
        is_ours = environment.get("SLURM_CONF") == self.env["SLURM_CONF"]
        if node:
            return is_ours and environment.get("SLURMD_NODENAME") == node
        return is_ours or (name.startswith("slurmstepd") and place.startswith(str(self.folder)))


def _which(program: str) -> str | None:
    return shutil.which(program, path=_path())


def _path() -> str:
    return f"/usr/sbin:/sbin:{os.environ['PATH']}"


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
