"""The runs of a study as the run directories and SLURM see them together.

The run directories say what is done; SLURM says what waits, and how jobs ended that could not say it
themselves. Where the two disagree, both are shown. SLURM is asked once for its queue and once for its
accounting, however many jobs there are.
"""

import getpass
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console

from core.errors import Cause
from core.lease import OWN_STALE_SECONDS, is_overdue
from core.rundir import RunDirectory
from core.states import RunState, State, observe_abandoned, observe_all
from sweeps import slurm
from sweeps.grid import Grid
from sweeps.slurm import CAUSES, SlurmUnavailable, Task
from sweeps.submission import REQUEUE_CODE, TOO_SHORT_CODE, Submission, ended_submissions, open_submissions

ENDED = {"COMPLETED", *CAUSES}
LISTING_SECONDS = 3600.0
"""How long after a submission the accounting is given to list all its tasks; those never begun it may never list."""
ENDING_SECONDS = 86400.0
"""The same to tell of the ends of those that it lists."""


@dataclass(frozen=True)
class View:
    """The state of every run, with SLURM's side of it."""

    states: Mapping[str, RunState]
    tasks: Mapping[str, Task]
    """The task in the queue that executes or will execute a run; where many share it, one of them."""
    submissions: Mapping[str, Submission] = field(default_factory=dict)
    """That of each of these tasks, by run."""
    notes: Sequence[str] = ()
    """Where run directories and SLURM disagree, a line each."""
    queue_known: bool = True
    """False where SLURM did not say what waits and runs."""


def look(grids: Sequence[Grid], ending: bool = True) -> list[View]:
    """Every run's state from its directory and from the queue, of studies that share an output folder.

    ending: whether tasks count that are on their way out of the queue; some come back to it.
    Raises: SlurmUnavailable if there are submissions and SLURM does not answer.
    """
    submissions = open_submissions(grids[0].request.output)
    there = [task for task in slurm.queue(_job_names(submissions)) if ending or not task.is_ending]
    return [_with_queue(grid, submissions, there) for grid in grids]


def _with_queue(grid: Grid, submissions: Sequence[Submission], there: Sequence[Task]) -> View:
    tasks = _tasks_of_runs(submissions, there)
    states = _observe(grid)
    in_queue = {task.id for task in there}
    for run, state in states.items():
        if state.state == State.RUNNING:
            states[run] = _without_gone_owner(state, RunDirectory(grid.request.runs, run), in_queue)
    for run, state in states.items():
        if run in tasks and _may_start(state, grid.request.runs, run, tasks[run][0]):
            states[run] = replace(state, state=State.QUEUED)
    tasks = {run: found for run, found in tasks.items() if run in states}
    return View(
        states,
        {run: task for run, (_, task) in tasks.items()},
        {run: submission for run, (submission, _) in tasks.items()},
    )


def _observe(grid: Grid) -> dict[str, RunState]:
    return observe_all(grid.request.runs, {run.id: run.evaluation_ids for run in grid.runs().values()})


def look_anyway(grids: Sequence[Grid]) -> list[View]:
    """As `look`, from the run directories alone where SLURM does not answer."""
    try:
        return look(grids)
    except SlurmUnavailable as error:
        return [View(_observe(grid), {}, notes=(str(error),), queue_known=False) for grid in grids]


def lacking_evaluations(grid: Grid, view: View) -> list[str]:
    """The runs in the queue for which an evaluation is asked that is neither made nor on their jobs' list."""
    waiting = [run for run in view.submissions if view.states[run].state in (State.QUEUED, State.RUNNING)]
    listed: dict[str, set[str]] = {}
    for submission in {view.submissions[run].folder: view.submissions[run] for run in waiting}.values():
        listed = {**submission.evaluation_ids(set(waiting)), **listed}
    planned = grid.runs()
    return [
        run
        for run in waiting
        if run in listed
        and any(
            not RunDirectory(grid.request.runs, run).evaluation_file(identity).exists()
            for identity in set(planned[run].evaluation_ids.values()) - listed[run]
        )
    ]


def look_closely(grids: Sequence[Grid]) -> list[View]:
    """As `look_anyway`, with what the accounting says of runs that are neither done nor queued."""
    views = look_anyway(grids)
    if not all(view.queue_known for view in views):
        return views
    views = [replace(view, notes=_of_waiting_owners(view, grids[0].request.runs)) for view in views]
    output = grids[0].request.output
    unfinished = {grid.request.study.name for grid, view in zip(grids, views, strict=True) if _open_runs(view)}
    submissions = [one for one in open_submissions(output) if one.study in unfinished]
    try:
        accounts = slurm.accounting(_job_names(submissions), submissions[0].time) if submissions else []
    except SlurmUnavailable as error:
        return [replace(view, notes=(*view.notes, str(error))) for view in views]
    told = [
        (one, array, task)
        for one in ended_submissions(output)
        if one.study in unfinished
        for _, array, task in _of([one], one.told())
        if any(_is_last_word(one, grids[0].request.runs, run) for run in one.runs_of(array, task.index))
    ]
    told = sorted([*told, *_of(submissions, accounts)], key=lambda entry: entry[0].time)
    return [
        _with_accounting(view, [one for one in told if one[0].study == grid.request.study.name])
        for grid, view in zip(grids, views, strict=True)
    ]


def _of_waiting_owners(view: View, runs: Path) -> list[str]:
    """A line for each run that lives in a task which, by the queue, is not on a node."""
    return [
        f"run {run} has a living lease of job {task.id}, which waits: SLURM and the run directory disagree"
        for run, task in view.tasks.items()
        if task.state == "PENDING"
        and view.states[run].state == State.RUNNING
        # The lease of a job that was killed and queued again may seem to live for a while.
        and (view.states[run].owner or {}).get("job") == task.id
        and not is_overdue(RunDirectory(runs, run).lease_file, OWN_STALE_SECONDS)
    ]


def _is_last_word(submission: Submission, runs: Path, run: str) -> bool:
    """Whether nobody has tried a run since its submission was found to have ended."""
    attempts = RunDirectory(runs, run).attempts_file
    return not attempts.exists() or attempts.stat().st_mtime < submission.ended_file.stat().st_mtime


def _open_runs(view: View) -> set[str]:
    return {run for run, state in view.states.items() if state.state != State.DONE}


def _with_accounting(view: View, told: Sequence[tuple[Submission, int, Task]]) -> View:
    """A study's view with how the tasks of its submissions ended; of each run those of the newest, which comes last."""
    open_runs, states = _open_runs(view), dict(view.states)
    of_run: dict[str, list[tuple[Submission, Task]]] = {}
    for submission, array, task in told:
        for run in open_runs.intersection(submission.runs_of(array, task.index)):
            entries = of_run.setdefault(run, [])
            if entries and entries[-1][0] is not submission:
                entries.clear()
            entries.append((submission, task))
    notes = dict.fromkeys(view.notes)
    for run, entries in of_run.items():
        for submission, task in entries:
            states[run], note = _join(states[run], submission, task, run)
            if note:
                notes[note] = None
    return replace(view, states=states, notes=tuple(notes))


def close_ended(output: Path) -> list[str]:
    """Mark this user's submissions without a job in the queue, so that they are not asked for again.

    Returns SLURM's numbers of this user's arrays that are still there.

    Only the one submitter may do this: a submission that is being made has no job yet. And a cluster may hide
    the jobs of others. How tasks ended that did not complete is kept; where the accounting does not know it yet, the
    submission stays open. Raises: SlurmUnavailable.
    """
    submissions = open_submissions(output)
    there = slurm.queue(_job_names(submissions))
    names = {task.name for task in there}
    own = [one for one in submissions if one.user == getpass.getuser()]
    gone = [one for one in own if names.isdisjoint(one.job_names)]
    try:
        accounts = slurm.accounting(_job_names(gone), gone[0].time) if gone else []
    except SlurmUnavailable:  # for now, or on this cluster
        accounts = []
    for submission in gone:
        told = [task for _, _, task in _of([submission], accounts)]
        age = time.time() - submission.time
        is_known = all(task.state in ENDED for task in told) or age > ENDING_SECONDS
        if is_known and (len(told) >= sum(submission.arrays) or age > LISTING_SECONDS):
            submission.end(task for task in told if task.state in CAUSES)
    return sorted({task.job for _, _, task in _of(own, there)}, key=int)


def cancel(grid: Grid, console: Console) -> None:
    """Cancel the jobs of the study's runs; these are saved and stay resumable. Raises: SlurmUnavailable.

    A job that has other runs too, another scale's or another study's, is left alone and named.
    """
    submissions, wanted = open_submissions(grid.request.output), grid.runs().keys()
    tasks = list(_of(submissions, slurm.queue(_job_names(submissions))))
    own: set[str] = set()
    shared: set[str] = set()
    for submission, array, task in tasks:
        runs = submission.runs_of(array, task.index)
        if not wanted.isdisjoint(runs):
            (own if wanted >= set(runs) else shared).add(task.id)
    # A whole array by its number, as there may be thousands of tasks.
    left = {task.job for _, _, task in tasks if task.id not in own}
    noted = _note_cancelled(tasks, own)
    jobs = sorted({one.partition("_")[0] if one.partition("_")[0] not in left else one for one in own})
    try:
        slurm.cancel(jobs)
    except SlurmUnavailable:
        for submission in noted:
            submission.withdraw_cancelled()
        raise
    if jobs:
        console.print(f"cancelled the jobs {' '.join(jobs)}; submitting again goes on from here")
    if shared:
        named = " ".join(sorted(shared))
        console.print(f"not cancelled, as they have runs of other requests too: {named}; scancel ends them")


def _note_cancelled(tasks: Sequence[tuple[Submission, int, Task]], own: Set[str]) -> list[Submission]:
    """Note which tasks do not come back to the queue, as one would that SLURM has just preempted; where it is noted."""
    noted = []
    for submission in {of.folder: of for of, _, _ in tasks if of.user == getpass.getuser()}.values():
        ended = [task.id for of, _, task in tasks if of is submission and task.id in own]
        with suppress(OSError):  # a precaution only: a full disk must not keep jobs running
            if ended:
                submission.note_cancelled(ended)
                noted.append(submission)
    return noted


def _without_gone_owner(state: RunState, directory: RunDirectory, in_queue: Set[str]) -> RunState:
    """The state of a run; not running where its owner is a job that left the queue and does not renew its lease.

    A job that comes to such a run waits until the lease is dead, so that one that is only cut off meets nobody.
    """
    job = (state.owner or {}).get("job")
    if not job or job in in_queue or not is_overdue(directory.lease_file, OWN_STALE_SECONDS):
        return state
    return observe_abandoned(directory, directory.result_file.exists())


def _may_start(state: RunState, runs: Path, run: str, submission: Submission) -> bool:
    """Whether a task that has the run on its list may still begin it."""
    if state.state not in (State.PENDING, State.FAILED, State.TRAINED):
        return False
    if state.state == State.FAILED and not Cause(state.cause).can_pass:
        # Failed in this submission: its jobs do not try again what would fail again.
        return RunDirectory(runs, run).attempts_file.stat().st_mtime < submission.time
    return True


def _join(state: RunState, submission: Submission, task: Task, run: str) -> tuple[RunState, str]:
    """A run's state with how its task ended; and a line where that contradicts the run directory."""
    said = f"job {task.id} {task.state}" + (f" on {task.node}" if task.node else "")
    if state.state == State.RUNNING:
        owner = state.owner or {}
        if owner.get("job") == task.id and task.state in ENDED:
            return state, f"run {run} has a living lease of {said}: SLURM and the run directory disagree"
        return state, ""
    if state.state == State.QUEUED or task.state not in ENDED:
        return state, ""
    if task.state == "COMPLETED":
        note = "" if submission.jobs else f"run {run} is {state.state}, but {said}"
        return state, note
    if state.state == State.FAILED and state.cause != Cause.KILLED:
        return state, ""
    cause = CAUSES[task.state]
    if task.note == f"{TOO_SHORT_CODE}:0":
        advice = "; nothing was finished or saved in launcher.time: raise it"
        return RunState(State.FAILED, Cause.TIMEOUT, f"{said}, exit code {task.note}{advice}"), ""
    if task.note == f"{REQUEUE_CODE}:0" and state.cause:
        advice = "; it was told to end and could not be queued again: submit again to go on"
        return RunState(State.FAILED, state.cause, f"{said}, exit code {task.note}{advice}"), ""
    if cause == Cause.KILLED and submission.tells_of_memory(task.id):
        cause = Cause.OUT_OF_MEMORY  # clusters that watch memory without cgroups only write it down
    if task.state == "FAILED" and not submission.log(task.id).exists():
        advice = f" and no log: does that node see {submission.folder}? output_dir must be a folder that all nodes see"
    elif cause == Cause.KILLED and _failed_by_itself(state, submission, task):
        cause, advice = Cause.CODE_ERROR, f": {submission.last_words(task.id)} (log: {submission.log(task.id)})"
    else:
        advice = _advice(cause)
    return RunState(State.FAILED, cause, f"{said}, exit code {task.note}{advice}"), ""


def _failed_by_itself(state: RunState, submission: Submission, task: Task) -> bool:
    """Whether a task failed before it came to a run: not where the run says more, or its list is not its own."""
    is_saved = task.note == f"{REQUEUE_CODE}:0"
    return not task.is_killed and not is_saved and state.state != State.FAILED and not submission.jobs


def _advice(cause: Cause) -> str:
    if cause == Cause.OUT_OF_MEMORY:
        return "; ask for more with launcher.mem_gb, or lower train.batch_size"
    return "; submit again to go on from its last checkpoint" if cause.can_pass else ""


def _tasks_of_runs(submissions: Sequence[Submission], tasks: Sequence[Task]) -> dict[str, tuple[Submission, Task]]:
    """For every run on the list of a task in the queue, its submission and that task (a running one first)."""
    found: dict[str, tuple[Submission, Task]] = {}
    shared = set()
    for submission, array, task in sorted(_of(submissions, tasks), key=lambda entry: entry[2].waits):
        if submission.name in shared:
            continue
        if submission.jobs:
            shared.add(submission.name)  # all its tasks have the same runs
        for run in submission.runs_of(array, task.index):
            found.setdefault(run, (submission, task))
    return found


def _of(submissions: Sequence[Submission], tasks: Sequence[Task]) -> Iterator[tuple[Submission, int, Task]]:
    """Each task with its submission and the number of its array."""
    by_name = {
        name: (submission, array) for submission in submissions for array, name in enumerate(submission.job_names)
    }
    for task in tasks:
        if task.name in by_name:
            submission, array = by_name[task.name]
            yield submission, array, task


def _job_names(submissions: Sequence[Submission]) -> list[str]:
    return [name for submission in submissions for name in submission.job_names]
