"""Submitting with a stand-in for SLURM: shell scripts on the path that keep a queue in a folder."""

import json
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from core.lease import OWN_STALE_SECONDS, this_process
from sweeps import submit
from sweeps.submission import Submission, open_submissions
from tests.commandline import ROOT, call
from tests.test_launcher import submission

GOLDEN = Path(__file__).parent / "golden" / "sbatch.txt"
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
  "show config") echo "MaxArraySize            = ${ARRAY:-1001}" ;;
  *) echo "PartitionName=main Default=YES MaxTime=1-00:00:00 State=UP" ;;
esac
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A folder of stand-ins at the front of the path, with an empty queue."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (tmp_path / "queue").mkdir()
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
    monkeypatch.setenv("QUEUE", str(tmp_path / "queue"))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    return tmp_path


def end_jobs(where: Path, monkeypatch: pytest.MonkeyPatch, states: str) -> Submission:
    """The jobs of the only open submission leave the queue, and the accounting says how they ended."""
    (one,) = open_submissions(where / "outputs")
    (where / "queue" / "100").unlink()
    monkeypatch.setenv("JOB", one.job_names[0])
    monkeypatch.setenv("ENDED", states)
    return one


def queued(where: Path) -> list[str]:
    return sorted(path.name for path in (where / "queue").iterdir())


def test_what_is_queued_is_not_submitted_again(cluster):
    first = call(cluster, *THREE)
    assert first.returncode == 0, first.stderr
    assert "submitted 3 runs as 3 jobs in 1 array: 100" in first.stdout
    again = call(cluster, *THREE)
    assert again.returncode == 0
    assert "3 queued already" in again.stdout
    assert "nothing to submit" in again.stdout
    more = call(cluster, *ASK, "augment.transforms.0=crop,color,blur", "augment.transforms.1=crop")
    assert "submitted 1 runs as 1 job in 1 array: 101" in more.stdout
    assert queued(cluster) == ["100", "101"]


def test_a_submitter_that_died_after_sbatch_left_jobs_that_are_recognised(cluster, monkeypatch):
    monkeypatch.setenv("DIE_AFTER_SBATCH", "1")
    assert call(cluster, *THREE).returncode == -9
    monkeypatch.delenv("DIE_AFTER_SBATCH")
    (left,) = open_submissions(cluster / "outputs")
    assert left.array_jobs == ()
    again = call(cluster, *THREE)
    assert "3 queued already" in again.stdout
    assert queued(cluster) == ["100"]


def test_an_evaluation_that_queued_jobs_do_not_know_of_is_not_passed_over(cluster):
    call(cluster, *THREE)
    again = call(cluster, *THREE, "evaluate.linear.l2=0.01")
    assert again.returncode == 1
    assert "3 of those in the queue were submitted without all of these evaluations" in again.stdout
    assert "nothing to submit" in again.stdout


def test_an_sbatch_whose_answer_is_lost_may_have_submitted(cluster, monkeypatch):
    monkeypatch.setenv("LOSE_ANSWER", "1")
    lost = call(cluster, *THREE)
    assert lost.returncode == 2
    assert "Socket timed out; SLURM may have taken the jobs all the same: see action=status" in lost.stderr
    monkeypatch.delenv("LOSE_ANSWER")
    assert "3 queued already" in call(cluster, *THREE).stdout
    assert queued(cluster) == ["100"]


def test_runs_of_jobs_that_are_ending_are_submitted_again(cluster, monkeypatch):
    call(cluster, *THREE)
    monkeypatch.setenv("STATE", "COMPLETING")
    assert "submitted 3 runs" in call(cluster, *THREE).stdout
    # They may come back to the queue: the first submission stays open.
    assert len(open_submissions(cluster / "outputs")) == 2


def test_a_run_whose_job_vanished_with_its_node_is_submitted_again(cluster, monkeypatch):
    call(cluster, *THREE)
    run = next(iter(json.loads(next(cluster.glob("outputs/submissions/*/submission.json")).read_text())["runs"]))
    lease = cluster / "outputs" / "runs" / run / "lease.json"
    lease.parent.mkdir(parents=True, exist_ok=True)
    lease.write_text(json.dumps({**this_process(), "host": "elsewhere", "job": "99_0"}))
    (cluster / "queue" / "100").unlink()
    assert "submitted 2 runs" in call(cluster, *THREE).stdout  # its lease was renewed just now
    ago = time.time() - OWN_STALE_SECONDS - 1
    os.utime(lease, (ago, ago))
    assert "submitted 1 runs as 1 job in 1 array: 101" in call(cluster, *THREE).stdout
    assert "nothing to submit" in call(cluster, *THREE).stdout
    for job in ("101_0", ""):  # a job that is in the queue may be cut off; a local sweep has none
        lease.write_text(json.dumps({**this_process(), "host": "elsewhere", "job": job}))
        os.utime(lease, (ago, ago))
        assert "1 running" in call(cluster, *THREE).stdout


def test_variables_that_sbatch_prefers_to_the_script_are_kept_from_it(cluster, monkeypatch):
    monkeypatch.setenv("SBATCH_JOB_NAME", "mine")
    assert call(cluster, *THREE).returncode == 0


def test_jobs_that_left_the_queue_without_doing_their_runs_are_submitted_again(cluster, monkeypatch):
    call(cluster, *THREE)
    end_jobs(cluster, monkeypatch, "COMPLETED CANCELLED TIMEOUT")
    again = call(cluster, *THREE)
    assert "submitted 3 runs" in again.stdout
    # the first submission is closed: only the second is asked for from now on
    assert len(open_submissions(cluster / "outputs")) == 1


def test_arrays_are_split_at_the_limit_of_the_cluster_and_follow_each_other_under_a_limit_of_ours(cluster, monkeypatch):
    monkeypatch.setenv("ARRAY", "2")
    assert "in 2 arrays: 100 101" in call(cluster, *THREE, "launcher.max_parallel=1").stdout
    texts = [(cluster / "queue" / job).read_text() for job in ("100", "101")]
    assert "--array=0-1%1" in texts[0]
    assert "--array=0-0%1" in texts[1]
    assert "--dependency=afterany:100" in texts[1]


def test_cancel_takes_the_jobs_of_the_study_out_of_the_queue(cluster):
    call(cluster, *THREE)
    done = call(cluster, *THREE, "action=cancel")
    assert done.returncode == 0
    assert "cancelled the jobs 100" in done.stdout
    assert queued(cluster) == []


def test_a_plan_for_gpus_says_gpu_hours(cluster):
    shown = call(cluster, *THREE, "action=plan", "launcher.gpus_per_node=1").stdout
    assert "3 jobs in 1 array, about 0.0 GPU hours (11,501 GMAC/s per worker assumed); the first:" in shown
    assert "#SBATCH --gpus-per-node=1" in shown


def test_status_counts_what_waits(cluster):
    call(cluster, *THREE)
    shown = call(cluster, *THREE, "action=status").stdout
    assert "3 queued" in shown
    assert "queued: 3 (Priority)" in shown


def test_how_jobs_ended_is_told_apart_with_one_question_to_the_queue_and_one_to_the_accounting(cluster, monkeypatch):
    five = [*ASK, "augment.transforms.0=crop,color", "augment.transforms.1=crop,blur"]
    call(cluster, *five)
    end_jobs(cluster, monkeypatch, "TIMEOUT PREEMPTED NODE_FAIL OUT_OF_MEMORY CANCELLED")
    (cluster / "calls").unlink(missing_ok=True)
    shown = call(cluster, *five, "action=status").stdout
    for cause in ("timeout", "preempted", "node failure", "out of memory", "cancelled"):
        assert f"{cause}: job 100_" in shown
    assert shown.count("submit again to go on from its last checkpoint") == 4
    assert "ask for more with launcher.mem_gb" in shown
    assert "0 done" in shown
    assert "5 failed" in shown
    assert (cluster / "calls").read_text().split() == ["squeue", "sacct"]


def test_cancel_leaves_other_requests_jobs_alone_and_names_those_that_it_shares(cluster):
    other = ["study=temperature", *ASK[1:]]
    call(cluster, *THREE)
    call(cluster, *other, "launcher.jobs=2")
    shared = call(cluster, *other, "loss.temperature=0.1", "action=cancel").stdout
    assert "not cancelled, as they have runs of other requests too: 101_0 101_1" in " ".join(shared.split())
    assert queued(cluster) == ["100", "101"]
    assert "cancelled the jobs 101" in call(cluster, *other, "action=cancel").stdout
    assert queued(cluster) == ["100"]


def test_of_an_array_only_the_jobs_of_the_request_are_cancelled(cluster, monkeypatch):
    log = cluster / "scancelled"
    (cluster / "bin" / "scancel").write_text(f'#!/bin/sh\necho "$@" >> {log}\n')
    call(cluster, *THREE)
    call(cluster, *ASK, "augment.transforms.0=crop", "augment.transforms.1=crop", "action=cancel")
    assert log.read_text() == "100_0 100_1\n"


def test_a_limit_of_jobs_at_a_time_holds_for_further_submissions_too(cluster):
    call(cluster, *THREE, "launcher.max_parallel=1")
    call(cluster, "study=temperature", *ASK[1:])
    call(cluster, "study=temperature", *ASK[1:], "seeds=[1]", "launcher.max_parallel=1")
    first, second, third = ((cluster / "queue" / name).read_text() for name in ("100", "101", "102"))
    assert "--dependency" not in first + second
    assert "#SBATCH --dependency=afterany:100:101\n" in third


@pytest.mark.parametrize("group", ["launcher=slurm", "scale=smoke", "data=synthetic"])
def test_a_file_that_the_programs_own_would_hide_is_refused(cluster, group):
    kind, _, name = group.partition("=")
    file = cluster / "own" / kind / f"{name}.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("name: slurm\npartition: mine\n")
    done = call(cluster, *THREE, "--config-dir", str(cluster / "own"))
    assert done.returncode == 2
    assert f"{group}: {file} has the name of the program's own" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_cause_that_was_kept_says_nothing_of_what_a_run_went_through_since(cluster, monkeypatch):
    call(cluster, *THREE)
    submission = end_jobs(cluster, monkeypatch, "TIMEOUT TIMEOUT TIMEOUT")
    call(cluster, "study=temperature", *ASK[1:])
    run = submission.runs[0]
    folder = cluster / "outputs" / "runs" / run
    folder.mkdir(parents=True)
    for event in ({"event": "start", "attempt": 1}, {"event": "end", "attempt": 1, "outcome": "stopped"}):
        with open(folder / "attempts.jsonl", "a") as file:
            file.write(json.dumps({**event, "time": time.time()}) + "\n")
    shown = call(cluster, *THREE, "action=status").stdout
    assert "2 failed, 1 pending" in shown
    assert run not in shown


def test_what_the_script_asks_for_is_not_overruled_by_the_environment(cluster, monkeypatch):
    seen = cluster / "seen"
    sbatch = (cluster / "bin" / "sbatch").read_text()
    (cluster / "bin" / "sbatch").write_text(sbatch.replace("#!/bin/sh\n", f"#!/bin/sh\nenv > {seen}\n"))
    outer = {"SLURM_JOB_ID": "7", "SLURM_MEM_PER_CPU": "1", "SLURM_CONF": "/etc/slurm.conf"}
    asked = {"SBATCH_GRES": "gpu:8", "SBATCH_MEM_PER_CPU": "1", "SBATCH_NICE": "3", "SUBMITIT_PREEMPT_SIGNAL": "USR1"}
    for name, value in {**outer, **asked, "SBATCH_ACCOUNT": "vision"}.items():
        monkeypatch.setenv(name, value)
    profile = cluster / "own" / "launcher" / "mine.yaml"
    profile.parent.mkdir(parents=True)
    profile.write_text("{name: slurm, gres: 'gpu:1', mem_gb: 4, extra: {nice: 5}}")
    words = [word for word in THREE if not word.startswith("launcher=")]
    done = call(cluster, *words, "launcher=mine", "--config-dir", str(cluster / "own"))
    assert done.returncode == 0, done.stderr
    names = {line.partition("=")[0] for line in seen.read_text().splitlines()}
    assert {"SBATCH_ACCOUNT", "SLURM_CONF"} <= names
    assert names.isdisjoint({"SBATCH_GRES", "SBATCH_MEM_PER_CPU", "SBATCH_NICE", "SLURM_JOB_ID", "SLURM_MEM_PER_CPU"})
    assert "#SBATCH --signal=USR2@90\n" in (cluster / "queue" / "100").read_text()


def test_slurm_is_asked_as_often_about_all_studies_as_about_one(cluster, monkeypatch):
    everything = ["study=all", *ASK[1:]]
    call(cluster, *THREE)
    call(cluster, "study=temperature", *ASK[1:])
    ended, waiting = open_submissions(cluster / "outputs")
    (cluster / "queue" / "100").unlink()
    monkeypatch.setenv("JOB", ended.job_names[0])
    monkeypatch.setenv("ENDED", "TIMEOUT")
    (cluster / "calls").unlink()
    shown = call(cluster, *everything, "action=status").stdout
    assert "timeout: job 100_0 TIMEOUT on n1" in shown
    (temperature,) = [line for line in shown.splitlines() if line.startswith("temperature:")]
    assert f"{len(waiting.runs)} queued" in temperature
    assert (cluster / "calls").read_text().split() == ["squeue", "sacct"]


def test_causes_are_known_after_another_submission_too_and_after_the_accounting_is_gone(cluster, monkeypatch):
    call(cluster, *THREE)
    submission = end_jobs(cluster, monkeypatch, "OUT_OF_MEMORY RUNNING NODE_FAIL")
    call(cluster, "study=temperature", *ASK[1:])
    assert submission in open_submissions(cluster / "outputs")  # the accounting is behind
    monkeypatch.setenv("ENDED", "OUT_OF_MEMORY COMPLETED NODE_FAIL")
    call(cluster, "study=temperature", *ASK[1:], "seeds=2")
    assert submission not in open_submissions(cluster / "outputs")
    monkeypatch.setenv("ENDED", "")
    shown = call(cluster, *THREE, "action=status").stdout
    assert "2 failed" in shown
    assert "out of memory: job 100_0" in shown
    assert "node failure: job 100_2" in shown


def test_a_job_that_fails_by_itself_is_shown_with_its_last_words(cluster, monkeypatch):
    call(cluster, *THREE)
    submission = end_jobs(cluster, monkeypatch, "FAILED")
    monkeypatch.setenv("CODE", "1:0")
    log = submission.log("100_0")
    log.write_text("Traceback\nModuleNotFoundError: No module named 'torch'\nsrun: error: n1: task 0: Exited\n")
    shown = call(cluster, *THREE, "action=status").stdout
    failure = "code error: job 100_0 FAILED on n1, exit code 1:0: ModuleNotFoundError: No module named 'torch'"
    assert f"{failure} (log: {log})" in " ".join(shown.split())


def test_plan_says_what_is_queued_or_that_it_does_not_know(cluster, monkeypatch):
    call(cluster, *THREE)
    assert "3 queued" in call(cluster, *THREE, "action=plan").stdout
    monkeypatch.setenv("NO_ANSWER", "1")
    shown = call(cluster, *THREE, "action=plan").stdout
    assert "what is queued is not known: squeue: slurm_load_jobs error" in shown


def test_a_profile_names_only_what_it_changes_and_can_be_overridden(cluster):
    folder = cluster / "own" / "launcher"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("name: slurm\npartition: main\nextra: {exclusive: true, nice: 100}\n")
    words = [word for word in THREE if not word.startswith("launcher=")]
    mine = [*words, "launcher=mine", "--config-dir", str(folder.parent), "action=plan"]
    shown = call(cluster, *mine, "launcher.runs_per_job=2", "launcher.exclude=n[1-3],n7").stdout
    for line in ("--partition=main", "--exclusive", "--nice=100", "--exclude='n[1-3],n7'", "--array=0-1%2"):
        assert f"#SBATCH {line}\n" in shown
    (folder / "mine.yaml").write_text("name: slurm\ntime: 12:00:00  # half a day\n")
    refused = call(cluster, *mine)
    assert refused.returncode == 2
    assert "launcher.time=12:00:00: needs quotes in" in refused.stderr


def test_plan_shows_the_script_and_submits_nothing(cluster):
    done = call(cluster, *THREE, "action=plan", "launcher.runs_per_job=2")
    assert done.returncode == 0, done.stderr
    assert "2 jobs in 1 array, about 0.0 hours of one worker (30 GMAC/s per worker assumed); the first:" in done.stdout
    assert "#SBATCH --array=0-1%2" in done.stdout
    assert queued(cluster) == []
    assert not (cluster / "outputs" / "submissions").exists()


def test_plan_of_all_studies_says_what_each_would_submit_that_no_earlier_one_does(cluster):
    (cluster / "own" / "study").mkdir(parents=True)
    for name in ("a_first", "b_second"):
        text = (ROOT / "ablations" / "study" / "recipe.yaml").read_text().replace("name: recipe", f"name: {name}")
        (cluster / "own" / "study" / f"{name}.yaml").write_text(text)
    words = ["study=all", *ASK[1:], "--config-dir", "own", "action=plan", "launcher.runs_per_job=2"]
    done = call(cluster, *words)
    assert done.returncode == 0, done.stderr
    assert "a_first: 2 jobs in 1 array, about" in done.stdout
    assert "b_second: nothing to submit" in done.stdout
    assert done.stdout.count("#!/bin/bash") == 1
    assert queued(cluster) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["launcher.time=2-00:00:00"], "launcher.time=2-00:00:00: at most 1-00:00:00, the limit of partition main"),
        (["launcher.time=soon"], "launcher.time=soon: minutes, or"),
        (["launcher.tasks=3"], "launcher.tasks=3: must divide train.batch_size (64)"),
        (["launcher.nodes=1,2"], "launcher.nodes=1,2: one value"),
        (
            ["tracking.enabled=true", "tracking.uri=http://me:secret@host:5000"],
            "tracking.uri=http://host:5000: without a password, which",
        ),
        (["launcher.partitoin=gpu"], "did you mean 'launcher.partition'?"),
    ],
)
def test_a_wrong_request_submits_nothing(cluster, arguments, said):
    done = call(cluster, *THREE, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert queued(cluster) == []


def test_a_cluster_without_arrays_is_one_line(cluster, monkeypatch):
    monkeypatch.setenv("ARRAY", "0")
    done = call(cluster, *THREE)
    assert done.returncode == 2
    assert "takes no job arrays (MaxArraySize=0)" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_refusal_of_slurm_is_passed_on(cluster, monkeypatch):
    monkeypatch.setenv("REFUSE", "invalid partition specified: nowhere")
    done = call(cluster, *THREE, "launcher.partition=nowhere")
    assert done.returncode == 2
    assert "invalid partition specified: nowhere" in done.stderr
    assert done.stderr.count("\n") == 1
    assert open_submissions(cluster / "outputs") == []
    assert not list((cluster / "outputs").glob("submissions/*/*"))


@pytest.mark.parametrize(
    ("code", "log", "requeued"),
    [(0, "", [0, 0, 0]), (75, "", [1, 1, 1]), (137, "", [1, 1, 0]), (137, "oom-kill", [0, 0, 0]), (1, "", [0, 0, 0])],
)
def test_when_the_batch_script_has_its_job_queued_again(tmp_path, code, log, requeued):
    one = replace(submission(tmp_path / "a folder with 'quotes'", 1, 1, 0, 1), retries=2)
    (one.folder / "logs").mkdir(parents=True)
    one.log("7_0").write_text(log)
    script = "\n".join(['scontrol() { echo "$@" >&2; }', f"(exit {code})", *submit._teardown(one)])
    variables = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "0", "SLURM_JOB_ID": "8", "PATH": "/usr/bin:/bin"}
    for again in requeued:  # one attempt after the other
        done = subprocess.run(["bash", "-c", script], env=variables, capture_output=True, text=True)
        assert done.returncode == code
        # SLURM_JOB_ID is that of the whole array in one of its tasks.
        assert done.stderr == "requeue 7_0\n" * again


@pytest.mark.parametrize(("told", "again"), [("PreemptTime=2026-01-01T00:00:00", 1), ("PreemptTime=None", 0)])
@pytest.mark.parametrize("code", [140, 143])
def test_a_job_that_ends_before_it_listens_comes_back_if_it_was_preempted(tmp_path, code, told, again):
    one = submission(tmp_path, 1, 1, 0, 1)
    scontrol = f'scontrol() {{ [ "$1" = requeue ] && echo "$@" >&2 || echo "{told} $3"; }}'
    variables = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "0", "PATH": "/usr/bin:/bin"}
    script = "\n".join([scontrol, f"(exit {code})", *submit._teardown(one)])
    done = subprocess.run(["bash", "-c", script], env=variables, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (code, "requeue 7_0\n" * again)


def test_a_job_is_not_queued_again_where_its_kills_cannot_be_counted(tmp_path):
    one = submission(tmp_path, 1, 1, 0, 1)  # no folder of logs is there
    script = "\n".join(['scontrol() { echo "$@"; }', "(exit 137)", *submit._teardown(one)])
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (137, "")


def test_without_sbatch_there_is_one_line_that_says_what_to_use(cluster, monkeypatch):
    (cluster / "bin" / "sbatch").unlink()
    monkeypatch.setenv("PATH", str(cluster / "bin"))
    done = call(cluster, *THREE)
    assert done.returncode == 2
    assert "no sbatch on the path: use launcher=local" in done.stderr


def test_sbatch_text(cluster, tmp_path):
    """Golden: what a full profile becomes."""
    folder = cluster / "profiles" / "launcher"
    folder.mkdir(parents=True)
    profile = (ROOT / "ablations" / "launcher" / "slurm.yaml").read_text()
    for key, value in {
        'partition: ""': "partition: gpu",
        'account: ""': "account: vision",
        'constraint: ""': "constraint: a100",
        "gpus_per_node: 0": "gpus_per_node: 2",
        "mem_gb: 0": "mem_gb: 64",
        "tasks: 1 ": "tasks: 2 ",
        "setup: []": "setup: [module load cuda]",
        "extra: {}": "extra: {reservation: mine}",
        'python: ""': "python: /opt/python",
    }.items():
        assert key in profile
        profile = profile.replace(key, value)
    (folder / "mycluster.yaml").write_text(profile)
    words = [word for word in THREE if not word.startswith("launcher=")]
    done = call(cluster, *words, "launcher=mycluster", "--config-dir", str(folder.parent))
    assert done.returncode == 0, done.stderr
    (one,) = open_submissions(cluster / "outputs")
    text = (cluster / "queue" / "100").read_text()
    for found, shown in {str(one.folder): "SUBMISSION", one.code: "CODE", one.name: "NAME"}.items():
        text = text.replace(found, shown)
    assert text == GOLDEN.read_text()
    assert json.loads((one.folder / "submission.json").read_text())["array_jobs"] == ["100"]
