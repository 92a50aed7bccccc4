"""study.json: what the report and the mirror need to know of a study, as documented in docs/design.md."""

from pathlib import Path
from typing import Any

from reports.manifest import SCHEMA
from sweeps.grid import Cell, Grid
from sweeps.paper import load_paper, others
from sweeps.uri import without_password


def manifest(grid: Grid) -> dict[str, Any]:
    """The content of study.json."""
    request, study = grid.request, grid.request.study
    first = grid.config
    source = load_paper()[study.paper.source] if study.paper and study.paper.source else {}
    paper = study.paper and {
        "source": study.paper.source,
        "where": study.paper.where,
        "data": study.paper.data,
        "what": source.get("what", ""),
        "others": others(study.paper),
    }
    return {
        "schema": SCHEMA,
        "study": {
            "name": study.name,
            "title": study.title,
            "summary": study.summary,
            "metric": study.metric,
            "labels": study.labels,
            "report": study.report,
            "claims": study.claims,
            "paper": paper,
        },
        "scale": {
            "name": request.scale.name,
            "is_paper": request.scale.is_paper,
            "mapped": list(grid.mapped),
        },
        "data": {
            "name": first.data.name,
            "image_size": first.data.image_size,
            "has_stand_ins": any(
                evaluation["kind"] == "transfer" and evaluation["source"] == "procedural"
                for cell in grid.cells
                for evaluation in cell.runs[0].evaluations.values()
            ),
            "skipped": len(grid.info.bad),
        },
        "overrides": list(request.changes),
        "seeds": list(request.seeds),
        "axes": [{"key": key, "values": values} for key, values in request.axes.items()],
        "cells": [
            {
                "values": cell.values,
                "paper": cell.paper.get(study.metric),
                "paper_metrics": cell.paper,
                "runs": _run_records(cell),
            }
            for cell in grid.cells
        ],
        "references": [
            {
                "name": cell.reference,
                "label": study.references[cell.reference].label,
                "runs": _run_records(cell),
            }
            for cell in grid.references
        ],
        "runs_dir": str(Path("..", "..", "runs")),
        "tracking_uri": without_password(request.tracking_uri) if request.settings.tracking.enabled else "",
    }


def _run_records(cell: Cell) -> list[dict[str, Any]]:
    return [{"seed": run.config.seed, "run": run.id, "evaluations": run.evaluation_ids} for run in cell.runs]
