import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

from core import lease
from core.lease import Lease, holder


def _try(path: Path, barrier, results) -> None:
    barrier.wait()
    held = Lease.acquire(path)
    results.put(held is not None)
    barrier.wait()


def test_of_many_workers_exactly_one_gets_the_lease(tmp_path: Path):
    spawn = multiprocessing.get_context("spawn")
    barrier, results = spawn.Barrier(6), spawn.Queue()
    workers = [spawn.Process(target=_try, args=(tmp_path / "lease.json", barrier, results)) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert sorted(results.get(timeout=5) for _ in workers) == [False] * 5 + [True]


def test_a_released_lease_is_free(tmp_path: Path):
    first = Lease.acquire(tmp_path / "lease.json")
    assert first is not None
    assert Lease.acquire(tmp_path / "lease.json") is None
    first.release()
    assert holder(tmp_path / "lease.json") is None
    assert Lease.acquire(tmp_path / "lease.json") is not None


HOLD = """
import sys, time
from pathlib import Path
from core.lease import Lease
lease = Lease.acquire(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_the_lease_of_a_killed_process_is_taken_over(tmp_path: Path):
    path = tmp_path / "lease.json"
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    assert Lease.acquire(path) is None
    process.kill()
    process.wait()
    assert holder(path) is None
    assert Lease.acquire(path) is not None


def test_a_process_number_given_to_another_process_is_not_the_owner(tmp_path: Path):
    path = tmp_path / "lease.json"
    path.write_text(json.dumps({**lease.this_process(), "started": 1.0}))
    assert holder(path) is None


def test_a_lease_of_another_boot_is_dead(tmp_path: Path):
    path = tmp_path / "lease.json"
    path.write_text(json.dumps({**lease.this_process(), "boot": "another"}))
    assert holder(path) is None


def test_another_host_is_believed_until_it_stops_renewing(tmp_path: Path):
    path = tmp_path / "lease.json"
    path.write_text(json.dumps({**lease.this_process(), "host": "elsewhere"}))
    assert holder(path) is not None
    long_ago = time.time() - lease.STALE_SECONDS - 1
    os.utime(path, (long_ago, long_ago))
    assert holder(path) is None


def test_a_job_queued_again_waits_until_its_own_past_on_another_host_stops_renewing(tmp_path: Path, monkeypatch):
    """A node that is only cut off may still execute the earlier attempt."""
    path = tmp_path / "lease.json"
    path.write_text(json.dumps({**lease.this_process(), "host": "elsewhere", "job": "7_1", "restart": 0}))
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert holder(path) is not None
    ago = time.time() - lease.OWN_STALE_SECONDS - 1
    os.utime(path, (ago, ago))
    assert holder(path) is None
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    assert holder(path) is not None  # to another job it is somebody else's


def test_a_torn_lease_file_is_nobodys(tmp_path: Path):
    path = tmp_path / "lease.json"
    path.write_text('{"host": "el')
    assert holder(path) is None
    assert Lease.acquire(path) is not None
