"""An invented outputs tree: a manifest and run directories as the planner and the trainer write them.

The tests of the report work on it, so that the truth behind every number is known.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from core.identity import digest

ROOT = Path(__file__).parent.parent
FIRST, SECOND = "augment.transforms.0", "augment.transforms.1"
NAMES = ["crop", "cutout", "color", "sobel", "noise", "blur", "rotate"]
GOLDEN = Path(__file__).parent / "golden" / "reports"
ENVIRONMENT = {
    "commit": "0123456789abcdef0123456789abcdef01234567",
    "dirty": False,
    "python": "3.11.9",
    "platform": "Linux-6.1",
    "hostname": "node1",
    "cpu": "Example CPU",
    "device": "cpu",
    "threads": 1,
    "packages": {"torch": "2.6.0", "numpy": "2.0.0"},
}


@cache
def fig5() -> dict[tuple[str, str], float]:
    """The paper's Figure 5 by (1st, 2nd) transformation."""
    block = yaml.safe_load((ROOT / "ablations/paper/simclr.yaml").read_text())["fig5"]
    columns = [name.lower() for name in block["cols"]]
    return {
        (row, column): value
        for row in NAMES
        for column, value in zip(columns, block[row.capitalize()], strict=True)
        if column != "average"
    }


CLAIMS: list[dict[str, Any]] = [
    {
        "id": "pair_beats_single",
        "sentence": "No single transformation is as good as the best pair.",
        "section": "3.1",
        "check": {
            "form": "difference",
            "of": {"cells": {"diagonal": False}, "reduce": "max"},
            "minus": {"cells": {"diagonal": True}, "reduce": "max"},
        },
    },
    {
        "id": "crop_color_is_best_pair",
        "sentence": "Cropping with colour distortion is the best pair.",
        "section": "3.1",
        "check": {
            "form": "largest",
            "cells": {FIRST: ["crop", "color"], SECOND: ["crop", "color"], "diagonal": False},
            "among": {"diagonal": False},
        },
    },
    {
        "id": "color_helps_crop_most",
        "sentence": "Colour distortion helps cropping most.",
        "section": "3.1",
        "check": {"form": "largest", "cells": {FIRST: "crop", SECOND: "color"}, "among": {FIRST: "crop"}},
    },
]


@dataclass
class Outputs:
    """`root/reports/pairs/study.json` and `root/runs/`; change the fields, then `write`.

    value: accuracy in percent of (1st, 2nd, seed), or None for a run that never started.
    """

    root: Path
    value: Callable[[str, str, int], float | None]
    names: list[str] = field(default_factory=lambda: list(NAMES))
    seeds: list[int] = field(default_factory=lambda: [0])
    claims: list[dict[str, Any]] = field(default_factory=list)
    study: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    test_pictures: int = 2000
    journal: bool = False

    @property
    def folder(self) -> Path:
        return self.root / "reports" / "pairs"

    def run_folder(self, first: str, second: str, seed: int = 0) -> Path:
        return self.root / "runs" / run_name(first, second, seed)

    def write(self) -> Path:
        """Write everything; returns the report folder."""
        paper = fig5()
        cells = []
        for first in self.names:
            for second in self.names:
                runs = [self._run(first, second, s, self.value(first, second, s)) for s in self.seeds]
                values = {FIRST: first, SECOND: second}
                cells.append({"values": values, "paper": paper.get((first, second)), "runs": runs})
        untrained = [self._run("untrained", "", seed, 21.5) for seed in self.seeds]
        manifest = {
            "schema": 1,
            "study": {
                "name": "pairs",
                "title": "Linear evaluation under one or two data augmentations",
                "summary": "Which pair of augmentations makes the contrastive task useful?",
                "metric": "linear.top1",
                "labels": {
                    FIRST: "1st transformation",
                    SECOND: "2nd transformation",
                    **{name: name.capitalize() for name in self.names},
                },
                "report": {"kind": "heatmap", "rows": FIRST, "columns": SECOND, "average": True},
                "claims": self.claims,
                "paper": {
                    "source": "fig5",
                    "what": "ImageNet linear-eval top-1 %, ResNet-50, 100 epochs",
                    "where": "Figure 5, Sec. 3.1",
                },
                **self.study,
            },
            "scale": {
                "name": "mini",
                "is_paper": False,
                "mapped": [
                    {"key": "train.batch_size", "paper": 4096, "own": 256},
                    {"key": "train.epochs", "paper": 100, "own": 6},
                ],
            },
            "data": {"name": "synthetic", "image_size": 16},
            "overrides": [],
            "seeds": self.seeds,
            "axes": [{"key": key, "values": self.names} for key in (FIRST, SECOND)],
            "cells": cells,
            "references": [{"name": "untrained", "label": "untrained encoder", "runs": untrained}],
            "runs_dir": "../../runs",
            "tracking_uri": "sqlite:///outputs/mlflow.db",
            **self.extra,
        }
        _dump(self.folder / "study.json", manifest)
        return self.folder

    def _run(self, first: str, second: str, seed: int, value: float | None) -> dict[str, Any]:
        run = run_name(first, second, seed)
        evaluation = digest(["linear", run])
        if value is not None:
            folder = self.root / "runs" / run
            write_result(folder, run)
            write_evaluation(folder, run, evaluation, value, self.test_pictures)
            if self.journal:
                write_journal(folder, value)
        return {"seed": seed, "run": run, "evaluations": {"linear": evaluation}}


def run_name(first: str, second: str, seed: int) -> str:
    return digest([*dict.fromkeys([first, second]), seed])


def write_result(folder: Path, run: str) -> None:
    record = {
        "schema": 1,
        "run": run,
        "metrics": {"loss": 4.2, "accuracy": 61.0},
        "samples": 49152,
        "steps": 192,
        "seconds": 12.5,
        "compute_seconds": 11.9,
        "parameters": 178000,
        "environment": ENVIRONMENT,
        "finished": 1700000000.0,
    }
    _dump(folder / "result.json", record)
    config = {"schema": 1, "run": run, "seed": 0, "train": {"epochs": 6, "batch_size": 256}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def write_evaluation(folder: Path, run: str, evaluation: str, top1: float, n: int) -> None:
    record = {
        "schema": 1,
        "run": run,
        "evaluation": evaluation,
        "kind": "linear",
        "config": {"protocol": "lbfgs"},
        "metrics": {"top1": top1, "top5": min(100.0, top1 + 20)},
        "n": n,
        "seconds": 0.4,
        "environment": ENVIRONMENT,
    }
    _dump(folder / "evaluations" / f"{evaluation}.json", record)


def write_journal(folder: Path, value: float) -> None:
    lines = [
        {
            "event": "epoch",
            "step": 32 * epoch,
            "epoch": epoch,
            "samples": 8192 * epoch,
            "loss": round(5.5 - value / 40 * epoch / 6, 3),
            "accuracy": round(value * epoch / 6, 2),
            "seconds": 2.0,
            "time": 1700000000.0 + 2 * epoch,
        }
        for epoch in range(1, 7)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_failure(folder: Path, cause: str, message: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    ended = {"outcome": "failed", "cause": cause, "message": message}
    lines = [
        {"event": "start", "attempt": 1, "host": "node1", "pid": 7, "time": 1700000000.0},
        {"event": "end", "attempt": 1, **ended, "time": 1700000009.0},
    ]
    (folder / "attempts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _dump(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def assert_golden(name: str, text: str) -> None:
    """The text equals the stored one; UPDATE_GOLDEN=1 stores it anew, to be read in the diff."""
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()
