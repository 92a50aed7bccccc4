"""The live mirror: its rhythm with a clock of ours, and the real process on a real store."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeps import mirror
from sweeps.mirror import PartialReport, follow
from tests.track_fixture import InventedStudy, contents, log_steps

LONG = 120


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Builds:
    """Stands for the report: counts how often it was built, and leaves its files."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, folder: Path) -> None:
        self.count += 1
        for name in mirror.PARTIAL_FILES:
            (folder / name).write_text(f"partial {self.count}")


@pytest.fixture
def study(tmp_path: Path) -> InventedStudy:
    return InventedStudy(tmp_path / "out put")


def test_the_partial_report_comes_with_the_first_cell_and_then_now_and_then(study: InventedStudy) -> None:
    clock, build = Clock(), Builds()
    report = PartialReport(study.manifest.parent, build, clock)
    report.refresh()
    assert build.count == 0
    study.finish("crop", "color")
    report.refresh()
    assert build.count == 1
    study.finish("crop", "crop")
    clock.now += mirror.REPORT_SECONDS - 1
    report.refresh()
    assert build.count == 1
    clock.now += 1
    report.refresh()
    assert build.count == 2
    clock.now += mirror.REPORT_SECONDS
    report.refresh()
    assert build.count == 2


def test_at_the_end_a_partial_report_that_lacks_a_cell_is_completed(study: InventedStudy) -> None:
    build = Builds()
    report = PartialReport(study.manifest.parent, build, Clock())
    study.finish("crop", "color")
    report.refresh()
    study.finish("crop", "crop")
    report.close()
    report.close()
    assert build.count == 2


def test_at_the_end_the_report_of_the_sweep_is_left_alone(study: InventedStudy) -> None:
    build = Builds()
    report = PartialReport(study.manifest.parent, build, Clock())
    study.finish("crop", "color")
    report.refresh()
    study.finish("crop", "crop")
    for name in mirror.PARTIAL_FILES:
        (study.manifest.parent / name).write_text("the sweep's own report")
    report.close()
    assert build.count == 1


def test_what_goes_wrong_is_told_once_and_tried_again() -> None:
    ended = threading.Event()
    rounds: list[int] = []
    warnings: list[str] = []

    def sync() -> list[str]:
        rounds.append(1)
        if len(rounds) == 3:
            ended.set()
        if len(rounds) < 4:
            raise RuntimeError("the server is away")
        return []

    assert follow_quickly(sync, ended, warnings.append)
    assert len(rounds) == 4
    assert warnings == ["RuntimeError: the server is away"]


def test_a_last_sync_that_fails_is_not_up_to_date() -> None:
    ended = threading.Event()
    ended.set()
    assert not follow_quickly(lambda: ["a damaged run"], ended, lambda _: None)


def follow_quickly(sync: Callable[[], list[str]], ended: threading.Event, warn: Callable[[str], None]) -> bool:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mirror, "TICK_SECONDS", 0.01)
        return follow(sync, None, ended, warn)


def start_mirror(study: InventedStudy, uri: str, *others: InventedStudy) -> subprocess.Popen[bytes]:
    manifests = [str(one.manifest) for one in (study, *others)]
    return subprocess.Popen(
        [sys.executable, "-m", "sweeps.mirror", *manifests, "--uri", uri, "--partial-report"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def test_the_process_mirrors_live_and_ends_with_its_parent(study: InventedStudy) -> None:
    uri = f"sqlite:///{study.root / 'mlflow.db'}"
    directory = study.start("crop", "color")
    log_steps(directory, [10])
    process = start_mirror(study, uri)
    deadline = time.monotonic() + LONG
    report = study.manifest.parent / "figure.png"
    study.finish("color", "color")
    while not (report.exists() and (study.root / "mlartifacts").exists()):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    log_steps(directory, [20])
    output, _ = process.communicate(timeout=LONG)
    assert (process.returncode, output) == (0, b""), (study.root / "logs" / "mirror.log").read_text()
    shown = contents(uri)
    assert [step for step, *_ in shown["crop + color · seed 0"]["curves"]["training/loss"]] == [10, 20]
    assert shown["color + color · seed 0"]["status"] == "FINISHED"


def test_one_process_mirrors_several_studies_though_one_cannot_be_read(study: InventedStudy) -> None:
    uri = f"sqlite:///{study.root / 'mlflow.db'}"
    damaged = InventedStudy(study.root, name="damaged")
    damaged.manifest.write_text("{")
    other = InventedStudy(study.root, name="other")
    study.finish("crop", "color")
    process = start_mirror(study, uri, damaged, other)
    output, _ = process.communicate(timeout=LONG)
    log = (study.root / "logs" / "mirror.log").read_text()
    assert (process.returncode, output) == (1, b""), log
    assert "damaged" in log
    for experiment in ("pairs", "other"):
        assert contents(uri, experiment)["crop + color · seed 0"]["status"] == "FINISHED"


def test_the_process_with_no_server_says_so_in_its_log_and_exit_code(study: InventedStudy) -> None:
    process = start_mirror(study, "http://127.0.0.1:9")
    output, _ = process.communicate(timeout=LONG)
    assert (process.returncode, output) == (1, b"")
    lines = (study.root / "logs" / "mirror.log").read_text().splitlines()
    assert any("MLflow at http://127.0.0.1:9: " in line for line in lines)
