"""Where a run is seen in MLflow: the command or server to open, and a link per run.

`mlflow.json` beside the manifest, {"experiment": <id>, "runs": {<run id>: <MLflow run id>}}, is written by
whoever mirrors the study; without it a run is still found by its tag. MLflow itself is never imported.
"""

from pathlib import Path
from urllib.parse import quote

from core.rundir import read_json
from reports.manifest import Manifest

IDS_FILE = "mlflow.json"
LOCAL_SERVER = "http://127.0.0.1:5000"


def instruction(manifest: Manifest) -> str:
    """How to open MLflow, in a sentence; empty where runs are not tracked."""
    uri = manifest.tracking_uri
    if not uri:
        return ""
    if _is_server(uri):
        return f"MLflow: {uri}, experiment {manifest.study.name}."
    return f"mlflow ui --backend-store-uri {uri} shows these runs at {LOCAL_SERVER}, experiment {manifest.study.name}."


def search_text(run: str) -> str:
    """What to type into MLflow's search box to find a run."""
    return f"tags.run = '{run}'"


def links(manifest: Manifest) -> dict[str, str]:
    """The address of every mirrored run by run id."""
    uri = manifest.tracking_uri
    ids = _ids(manifest.folder)
    if not uri or not ids:
        return {}
    server = quote(uri.rstrip("/"), safe=":/@.-_~[]") if _is_server(uri) else LOCAL_SERVER
    base = f"{server}/#/experiments/{quote(str(ids['experiment']), safe='')}/runs/"
    return {run: base + quote(str(mlflow_run), safe="") for run, mlflow_run in ids["runs"].items()}


def _is_server(uri: str) -> bool:
    return uri.startswith(("http://", "https://"))


def _ids(folder: Path) -> dict:
    """The mirror's ids; a damaged file is as good as none, since it is only a cache."""
    try:
        ids = read_json(folder / IDS_FILE) or {}
    except ValueError:
        return {}
    return ids if {"experiment", "runs"} <= ids.keys() else {}
