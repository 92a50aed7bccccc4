"""Run directories without training: as in the middle of a sweep, or all finished as `mini` leaves them.

In the middle of a sweep, of ten runs six are done, one failed, three wait.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from core.environment import describe
from core.rundir import RunDirectory
from sweeps.planned import PlannedRun

STATES = ("done", "done", "failed", "done", "waiting", "done", "waiting", "done", "waiting", "done")
METRICS = 20
"""Numbers in the result of every evaluation, one of them `top1`."""
STEPS, STEPS_PER_EPOCH, LOG_STEPS, BATCH = 384, 128, 10, 128
"""Of a training of `mini`: 38 lines for steps and three for epochs."""
BEGIN = 1_750_000_000.0
STEP_SECONDS = 0.0625


def fill(runs: Path, evaluation_ids: Mapping[str, Iterable[str]]) -> Counter:
    """Make the directories of runs with their evaluations; how many there are of each state."""
    counts: Counter = Counter()
    environment = {"environment": describe("cpu")}
    for number, (run, evaluations) in enumerate(evaluation_ids.items()):
        state = STATES[number % len(STATES)]
        counts[state] += 1
        directory = RunDirectory(runs, run)
        directory.evaluations.mkdir(parents=True)
        # The first line is what a status looks at; a whole config would take most of the time of making these.
        directory.config_file.write_text(f"schema: 1\nrun: {run}\n")
        if state == "waiting":
            continue
        start = {"event": "start", "attempt": 1, "host": "n1", "pid": 1, "job": "", "time": 0}
        end = {"event": "end", "attempt": 1, "outcome": state, "cause": "", "message": "", "time": 1}
        if state == "failed":
            end |= {"cause": "bad data", "message": "invented"}
        directory.attempts_file.write_text(f"{json.dumps(start)}\n{json.dumps(end)}\n")
        if state == "done":
            seconds = {"seconds": 1.0, "compute_seconds": 1.0, "finished": 1.0}
            result = {"schema": 1, "run": run, "metrics": {"loss": 1.0}, "samples": 1, "steps": 1, "parameters": 1}
            directory.result_file.write_text(json.dumps(result | seconds | environment))
            metrics = {"top1": number % 97} | {f"metric{index}": index for index in range(METRICS - 1)}
            record = {"metrics": metrics, "n": 1000, "kind": "linear", "seconds": 1.0, **environment}
            for identity in evaluations:
                directory.evaluation_file(identity).write_text(json.dumps(record))
    return counts


def finish(runs: Path, planned: Iterable[PlannedRun]) -> None:
    """Make the directories of finished runs: whole configs, journals as long as those of `mini`, one evaluation each.

    MLflow shows 20 numbers of each: loss, accuracy, entropy and seconds of its training, and 16 of its evaluation.
    """
    environment = describe("cpu")
    for number, run in enumerate(planned):
        directory = RunDirectory.create(runs, run.config)
        begin = BEGIN + 60 * number
        finished = begin + STEPS * STEP_SECONDS
        source = {"job": "", "commit": environment["commit"], "dirty": False}
        start = {"event": "start", "attempt": 1, "host": "n1", "pid": 1, **source, "time": begin}
        end = {"event": "end", "attempt": 1, "outcome": "done", "cause": "", "message": "", "time": finished + 1}
        directory.attempts_file.write_text(f"{json.dumps(start)}\n{json.dumps(end)}\n")
        directory.journal_file.write_text("".join(f"{json.dumps(line)}\n" for line in _journal(begin)))
        result = {
            "schema": 1,
            "run": run.id,
            "metrics": {"loss": 3.0 + number / 7e4, "accuracy": 40.0, "entropy": 2.0},
            "samples": STEPS * BATCH,
            "steps": STEPS,
            "seconds": STEPS * STEP_SECONDS,
            "compute_seconds": STEPS * STEP_SECONDS,
            "parameters": 300_000,
            "environment": environment,
            "finished": finished,
        }
        directory.result_file.write_text(json.dumps(result))
        directory.evaluations.mkdir()
        metrics = {"top1": number % 97} | {f"metric{index}": index / 7 for index in range(15)}
        record = {"metrics": metrics, "n": 10_000, "kind": "linear", "seconds": 1.0, "environment": environment}
        (identity,) = run.evaluation_ids.values()
        directory.evaluation_file(identity).write_text(json.dumps(record))


def _journal(begin: float) -> Iterable[dict[str, object]]:
    """The lines that core/train.py writes, with invented numbers of as many digits."""
    for step in range(1, STEPS + 1):
        loss, accuracy = 6 / (1 + step / 500), 100 - 90 / (1 + step / 500)
        seen = {"step": step, "epoch": round(step / STEPS_PER_EPOCH, 4), "samples": step * BATCH}
        time = {"time": round(begin + step * STEP_SECONDS, 3)}
        if step % LOG_STEPS == 0:
            speed = {"lr": 3 / (1 + step / 70), "images_per_s": round(BATCH / STEP_SECONDS, 1), "memory_mb": 612.3}
            yield {"event": "step", **seen, "loss": loss, "accuracy": accuracy, **speed, **time}
        if step % STEPS_PER_EPOCH == 0:
            rest = {"entropy": 2.0, "seconds": step * STEP_SECONDS}
            yield {"event": "epoch", **seen, "loss": loss, "accuracy": accuracy, **rest, **time}
