"""A new run in MLflow's sqlite file as rows, the same that MLflow's calls leave.

Those take a dozen transactions, and an object for every point, of which a run has hundreds.
"""

import math
import sys
import uuid
from collections.abc import Iterable
from itertools import chain
from typing import TYPE_CHECKING, Any

from sweeps.record import Point, Record

if TYPE_CHECKING:
    from sqlalchemy import Engine


def insert(
    file: "Engine",
    experiment: str,
    wanted: Record,
    lines: Iterable[list[Point]],
) -> str:
    """Write a new run into a sqlite file, in one transaction; its MLflow id.

    lines: the points of its journal, line by line.
    Raises: SQLAlchemyError and leaves the file as it was, also where the experiment was deleted; DamagedRun.
    """
    import sqlalchemy
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.store.tracking.dbmodels.models import (
        SqlExperiment,
        SqlLatestMetric,
        SqlMetric,
        SqlParam,
        SqlRun,
        SqlTag,
    )
    from mlflow.utils.uri import append_to_uri_path

    mlflow_id = uuid.uuid4().hex
    owner = {"run_uuid": mlflow_id}
    metrics: list[dict[str, Any]] = []
    latest: dict[str, dict[str, Any]] = {}
    for key, value, time, step in chain(wanted.final_points, chain.from_iterable(lines)):
        # SQL has no NaN and no infinity: these are MLflow's stand-ins.
        number = 0.0 if math.isnan(value) else min(max(value, -sys.float_info.max), sys.float_info.max)
        row = {"key": key, "value": number, "timestamp": time, "step": step, "is_nan": math.isnan(value), **owner}
        metrics.append(row)
        newest = latest.setdefault(key, row)
        if (step, time, number) > (newest["step"], newest["timestamp"], newest["value"]):
            latest[key] = row
    tags = {**wanted.tags, "mlflow.runName": wanted.name}
    with file.begin() as connection:
        is_ours = {"experiment_id": int(experiment), "lifecycle_stage": "active"}
        experiments = sqlalchemy.select(SqlExperiment).filter_by(**is_ours)
        location: str = connection.execute(experiments.with_only_columns(SqlExperiment.artifact_location)).scalar_one()
        artifacts = append_to_uri_path(location, mlflow_id, "artifacts")
        run = {
            "name": wanted.name,
            "artifact_uri": artifacts,
            "experiment_id": int(experiment),
            "source_type": "UNKNOWN",
            "user_id": "unknown",
            "status": wanted.status,
            "start_time": wanted.start,
            "end_time": wanted.end,
            "lifecycle_stage": "active",
            **dict.fromkeys(("source_name", "entry_point_name", "source_version"), ""),
        }
        tables: list[tuple[type, list[dict[str, Any]]]] = [
            (SqlRun, [{**run, **owner}]),
            (SqlTag, [{"key": key, "value": value, **owner} for key, value in tags.items()]),
            (SqlParam, [{"key": key, "value": value, **owner} for key, value in wanted.params.items()]),
            (SqlMetric, metrics),
            (SqlLatestMetric, list(latest.values())),
        ]
        for table, rows in tables:
            if rows:
                connection.execute(sqlalchemy.insert(table), rows)
        # Last, for the rows may be refused, but before they count: they tell that the artifacts are there.
        for path in wanted.artifacts.values():
            get_artifact_repository(artifacts).log_artifact(str(path))
    return mlflow_id
