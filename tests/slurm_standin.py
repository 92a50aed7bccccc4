"""A stand-in for SLURM: shell scripts on the path that keep a queue in a folder, and a study to submit to it."""

from pathlib import Path

import pytest

from sweeps.submission import Submission, open_submissions, split, tasks_for

ASK = ["study=augment_pairs", "scale=smoke", "launcher=slurm", "tracking.enabled=false"]
THREE = [*ASK, "augment.transforms.0=crop,color", "augment.transforms.1=crop"]
"""Two cells and the untrained encoder: three runs."""

SBATCH = """#!/bin/sh
[ -z "$SBATCH_JOB_NAME" ] || { echo "sbatch: error: called otherwise" >&2; exit 1; }
[ -z "$REFUSE" ] || { echo "sbatch: error: $REFUSE" >&2; exit 1; }
n=$(($(ls "$QUEUE" | wc -l) + 100))
cp "$1" "$QUEUE/$n"
[ -z "$DIE_AFTER_SBATCH" ] || kill -9 $PPID
[ -z "$LOSE_ANSWER" ] || { echo "sbatch: error: Batch job submission failed: Socket timed out" >&2; exit 1; }
echo "Submitted batch job $n"
"""
SQUEUE = """#!/bin/sh
echo squeue >> "$CALLS"
[ -z "$NO_ANSWER" ] || { echo "slurm_load_jobs error: Unable to contact slurm controller" >&2; exit 1; }
for file in "$QUEUE"/*; do
  [ -f "$file" ] || continue
  name=$(sed -n 's/^#SBATCH --job-name=//p' "$file")
  last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' "$file")
  for i in $(seq 0 "$last"); do echo "$name|$(basename "$file")|$i|${STATE:-PENDING}||Priority"; done
done
"""
SACCT = """#!/bin/sh
echo sacct >> "$CALLS"
i=0
for state in $ENDED; do echo "$JOB|100_$i|$state|n1|${CODE:-0:9}"; i=$((i + 1)); done
"""
SCONTROL = """#!/bin/sh
case "$*" in
  "show config") echo "KillWait                = 7 sec"; echo "MaxArraySize            = ${ARRAY:-1001}" ;;
  *) echo "PartitionName=main Default=YES MaxTime=1-00:00:00 State=UP" ;;
esac
"""


def install(where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of stand-ins at the front of the path, with an empty queue."""
    folder = where / "bin"
    folder.mkdir()
    (where / "queue").mkdir()
    for name, text in {
        "sbatch": SBATCH,
        "squeue": SQUEUE,
        "scontrol": SCONTROL,
        "srun": "#!/bin/sh\n",
        "sacct": SACCT,
        "scancel": '#!/bin/sh\nfor job in "$@"; do rm -f "$QUEUE/$job"; done\n',
    }.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("QUEUE", str(where / "queue"))
    monkeypatch.setenv("CALLS", str(where / "calls"))


def end_jobs(where: Path, monkeypatch: pytest.MonkeyPatch, states: str) -> Submission:
    """The jobs of the only open submission leave the queue, and the accounting says how they ended."""
    (one,) = open_submissions(where / "outputs")
    (where / "queue" / "100").unlink()
    monkeypatch.setenv("JOB", one.job_names[0])
    monkeypatch.setenv("ENDED", states)
    return one


def submission(folder: Path, count: int, runs_per_job: int, jobs: int, limit: int) -> Submission:
    return Submission(
        folder=folder,
        study="study",
        runs=tuple(f"{number:016x}" for number in range(count)),
        machine={},
        code="",
        runs_per_job=runs_per_job,
        jobs=min(jobs, count),
        retries=3,
        tracking_uri="",
        arrays=split(tasks_for(count, runs_per_job, jobs), limit),
    )


def queued(where: Path) -> list[str]:
    return sorted(path.name for path in (where / "queue").iterdir())
