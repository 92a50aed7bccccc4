"""All studies at once (`study=all`): runs that several of them need are counted and executed once.

Every study keeps its own report; one page shows them all.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from rich.console import Console

from core.config import DataConfig
from core.data import DatasetInfo
from core.errors import InvalidValue
from sweeps.costs import Speed, estimate, show_left_out
from sweeps.grid import Grid, data_config, expand, expand_leniently
from sweeps.plan import Plan, disk_bytes
from sweeps.planned import merged
from sweeps.request import Request


def expand_all(requests: Sequence[Request], inspect: Callable[[DataConfig], DatasetInfo]) -> list[Grid]:
    """The grids of the requests; a run of several studies has the evaluations of all of them.

    Raises: UserError for what is wrong with any of them, or a setting that has no effect on any study.
    """
    infos: dict[DataConfig, DatasetInfo] = {}
    found: list[tuple[Grid, set[str]]] = []
    for request in requests:
        config = data_config(request)
        if config not in infos:
            infos[config] = inspect(config)
        if len(requests) == 1:
            return [expand(request, infos[config])]
        found.append(expand_leniently(request, infos[config]))
    for key in dict.fromkeys(key for request in requests for key in request.overrides):
        asked = [(grid, idle) for grid, idle in found if key in grid.request.overrides]
        if all(key in idle for _, idle in asked):
            raise InvalidValue(key, asked[0][0].request.overrides[key], "has no effect on any cell of any study")
    together = merged(run for grid, _ in found for run in grid.runs().values())
    return [replace(grid, together=together) for grid, _ in found]


def show(grids: Sequence[Grid], whole: Plan, speed: Speed, workers: int, console: Console) -> None:
    """Print what all studies would cost together, and what sharing runs between them saves; `whole`: their plan."""
    request, info = grids[0].request, grids[0].info
    together = {identity: run for grid in grids for identity, run in grid.runs().items()}
    cost = {run.id: speed.training(run) for run in together.values()}
    to_train = {run.id for run in whole.train}
    console.print(
        f"{len(grids)} studies at scale {request.scale.name}, seeds {list(request.seeds)}, "
        f"{info.train_count:,} training pictures"
    )
    show_left_out(info, console)
    console.print(f"{'study':24} {'cells':>6} {'runs':>6} {'own':>6} {'to train':>9}  hours of training on one worker")
    seen: set[str] = set()
    for grid in grids:
        runs = grid.runs().keys()
        hours = sum(cost[run] for run in runs & to_train) / 3600
        line = f"{grid.request.study.name:24} {len(grid.cells):6} {len(runs):6} {len(runs - seen):6}"
        console.print(f"{line} {len(runs & to_train):9}  {hours:.2f}", highlight=False)
        seen |= runs
    if request.scale.is_paper:
        _name_other_pictures(grids, console)
    asked = sum(len(grid.runs()) for grid in grids)
    saved = 100 * (1 - len(together) / asked)
    alone = sum(cost[run] for grid in grids for run in grid.runs())
    console.print(
        f"{asked} runs asked for, {len(together)} after sharing: {saved:.1f}% of the trainings and "
        f"{100 * (1 - sum(cost.values()) / alone):.1f}% of their time saved",
        highlight=False,
    )
    console.print(
        f"{len(whole.train)} to train, {len(whole.evaluate)} to evaluate only, {len(whole.done)} reused, "
        f"{len(whole.running)} running elsewhere, {len(whole.queued)} queued, {len(whole.hopeless)} diverged before; "
        f"{estimate(whole, speed, workers)}, "
        f"{sum(disk_bytes(run.config) for run in whole.train) / 1e6:,.0f} MB of disk",
        highlight=False,
    )


def _name_other_pictures(grids: Sequence[Grid], console: Console) -> None:
    """Say which studies the paper has on other pictures than those that they are counted on here."""
    here = grids[0].request.data["data.name"]
    data_of = {grid.request.study.name: paper.data for grid in grids if (paper := grid.request.study.paper)}
    for data in dict.fromkeys(data_of.values()):
        if data != here:
            named = ", ".join(name for name, its_data in data_of.items() if its_data == data)
            console.print(f"the paper has {named} on {data}: say study=NAME data={data} for what they cost there")
