"""The live display: what it says while runs are under way, and off a terminal."""

import io
from pathlib import Path

from rich.console import Console

from core.attempts import Outcome
from core.journal import Journal
from core.rundir import RunDirectory, write_json
from sweeps import request
from sweeps.grid import expand
from sweeps.progress import Display, Tally
from tests.pictures import pictures


def test_what_a_terminal_shows(tmp_path: Path):
    axes = ["augment.transforms.0=crop,color", "augment.transforms.1=crop,color"]
    (asked,) = request.read(["study=augment_pairs", "scale=smoke", f"output_dir={tmp_path}", "train.epochs=4", *axes])
    grid = expand(asked, pictures(512, 256))
    untrained, done, failed, running, waiting = grid.runs().values()
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=120)
    tally = Tally(grid, [untrained.id])
    to_do = {run.id: run for run in (done, failed, running, waiting)}
    (identity,) = done.evaluation_ids.values()
    write_json(RunDirectory(asked.runs, done.id).evaluation_file(identity), {"metrics": {"top1": 43.21}})
    directory = RunDirectory(asked.runs, running.id)
    directory.path.mkdir(parents=True)
    journal = Journal(directory.journal_file, 0)
    journal.write("step", step=6, epoch=1.5, samples=96, loss=2.345, images_per_s=1234.0)
    journal.close()
    with Display(tally, console, to_do) as display:
        display.refresh([done, running])
        display.ended(done.id, Outcome("done"))
        display.ended(failed.id, Outcome("failed", "diverged", "loss is nan"))
        display.refresh([running])
    text = written.getvalue()
    last = text[text.rindex("images/s") - 120 :]
    assert "2 done · 1 running · 1 failed · 1,234 images/s" in last
    assert " left" in last
    assert f"best so far: {tally.name(done.id)} 43.2" in last
    assert f"{tally.name(running.id)}: epoch 1.5 of 4, loss 2.345" in last
    assert f"{tally.name(failed.id)} [{failed.id}]: failed: diverged: loss is nan" in text


def test_what_a_log_shows(tmp_path: Path):
    (asked,) = request.read(["study=augment_pairs", "scale=smoke", f"output_dir={tmp_path}"])
    grid = expand(asked, pictures(512, 256))
    run = grid.cells[0].runs[0]
    written = io.StringIO()
    with Display(Tally(grid, []), Console(file=written), {run.id: run}) as display:
        display.refresh([run])
        display.ended(run.id, Outcome("done"))
    assert written.getvalue() == f"1/50 Crop [{run.id}]: done\n"
