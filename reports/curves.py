"""Learning curves: loss and training accuracy of many runs against samples, from their journals.

Lines have the colour of the metric that the run reached, so that good and bad cells can be told apart
while they learn; runs that failed end where they failed, in red.
"""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from core.journal import read_lines
from core.rundir import RunDirectory
from reports.figures import STYLE
from reports.heatmap import COLOURS
from reports.manifest import Manifest

MOST_RUNS = 200
_FAILED = "#b22222"


def read_curve(directory: RunDirectory) -> pd.DataFrame:
    """One line per epoch of a run (or per logged step before the first epoch's end); empty if never started.

    Columns as in core/journal.py.
    """
    lines = list(read_lines(directory.journal_file))
    epochs = [line for line in lines if line.get("event") == "epoch"]
    return pd.DataFrame(epochs or [line for line in lines if line.get("event") == "step"])


def draw_curves(manifest: Manifest, runs: pd.DataFrame) -> Figure:
    """Loss and training accuracy of the study's runs; of more than 200, evenly chosen ones."""
    distinct = runs.drop_duplicates("run")
    evenly = np.linspace(0, len(distinct) - 1, min(len(distinct), MOST_RUNS)).astype(int)
    shown = distinct.iloc[evenly]
    values = shown["value"].astype(float)
    norm = Normalize(values.min(), values.max()) if values.notna().any() else Normalize(0, 1)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 3.8), layout="constrained", facecolor="white")
        panels = figure.subplots(1, 2)
        drawn = 0
        for run, state, value in zip(shown["run"], shown["state"], values, strict=True):
            curve = read_curve(RunDirectory(manifest.runs_folder, run))
            if curve.empty:
                continue
            drawn += 1
            style = {"color": "#9a9a9a" if np.isnan(value) else COLOURS(norm(value)), "linewidth": 0.9}
            if state == "failed":
                style = {"color": _FAILED, "linewidth": 1.4, "linestyle": "--"}
            for axes, name in zip(panels, ("loss", "accuracy"), strict=True):
                axes.plot(curve["samples"], curve[name], **style)
        for axes, name in zip(panels, ("training loss", "accuracy on the training batch (%)"), strict=True):
            _finish(axes, name)
        bar = figure.colorbar(ScalarMappable(norm, COLOURS), ax=panels, fraction=0.025, pad=0.01)
        bar.set_label(f"{manifest.metric_label} reached")
        title = f"{drawn} of {len(distinct)} runs; failed ones red and dashed"
        figure.suptitle(title, fontsize=9, x=0.01, ha="left")
        return figure


def _finish(axes: Axes, name: str) -> None:
    axes.set_xlabel("pictures seen")
    axes.set_ylabel(name)
    axes.grid(color="#e5e5e5", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
