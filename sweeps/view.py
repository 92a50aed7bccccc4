"""How MLflow's pages present a study: its description, and a saved view of its cells, best first.

MLflow's own table shows neither params nor metrics until somebody picks them, and hides runs below their
parent until it is opened. Saved views are experiment tags; a version of MLflow that keeps them in another
form passes over this one.
"""

import base64
import json
import zlib

from reports.manifest import Manifest
from sweeps.record import describe, safe_name

VIEW = "study"
"""Opened by .../#/experiments/<id>/runs?viewStateShareKey=study"""

_NAME = "attributes.`Run Name`"


def experiment_tags(manifest: Manifest) -> dict[str, str]:
    return {
        "mlflow.note.content": describe(manifest),
        # Opens the page for trainings, not the one for language-model applications.
        "mlflow.experimentKind": "custom_model_development",
        f"mlflow.sharedViewState.{VIEW}": saved_view(manifest),
    }


def saved_view(manifest: Manifest) -> str:
    """Columns and order of the view, in the form in which MLflow saves them."""
    metric = safe_name(manifest.study.metric)
    axes = [f"params.`{safe_name(axis.key)}`" for axis in manifest.axes]
    results = [f"metrics.`{name}`" for name in dict.fromkeys((metric, "train.loss", "train.seconds"))]
    columns = [*axes, *results, "params.`seed`"]
    state = {
        "searchFilter": "",
        "orderByKey": f"metrics.`{metric}`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": [_NAME, "runDateAndNestInfo", *columns],
        "columnWidths": {_NAME: 240, **dict.fromkeys(axes, 180)},
        "runsHiddenMode": "FIRST_10_RUNS",
        "hideEmptyCharts": True,
    }
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode())).decode()
    view = {"name": f"cells by {manifest.study.metric}", "createdAt": 0, "updatedAt": 0}
    return json.dumps({**view, "state": f"deflate;{packed}"})
