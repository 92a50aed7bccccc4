"""The MLflow mirror on a real `mlflow server`, which is stopped and started again in the middle."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeps.store import ENVIRONMENT
from sweeps.track import Tracker, TrackingUnavailable, sync
from tests.track_fixture import InventedStudy, contents, end, log_steps

START_SECONDS = 120


class Server:
    """An MLflow server on loopback with a store of its own."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._port = free_port()
        self.uri = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(self._port)]
        command += ["--backend-store-uri", f"sqlite:///{self._folder / 'server.db'}"]
        command += ["--artifacts-destination", str(self._folder / "server artifacts")]
        environment = {**os.environ, **ENVIRONMENT, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with open(self._folder / "server.log", "ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "server.log").read_text()
            assert time.monotonic() < deadline, (self._folder / "server.log").read_text()
            time.sleep(0.2)

    def stop(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, 9)  # the server and the workers that it started
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("a server"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_a_server_shows_what_a_file_shows(tmp_path: Path, server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    study = InventedStudy(tmp_path, name="whole")
    for first, second in study.pairs:
        study.finish(first, second)
    log_steps(study.run("crop", "crop"), range(31, 400))
    (study.manifest.parent / "figure.png").write_bytes(b"png")
    assert sync(study.manifest, server.uri).added == 4
    assert sync(study.manifest, server.uri).unchanged == 4
    assert capfd.readouterr() == ("", "")
    sqlite = f"sqlite:///{tmp_path / 'mlflow.db'}"
    sync(study.manifest, sqlite)
    assert contents(server.uri, "whole") == contents(sqlite, "whole")


def test_a_server_that_goes_and_comes_back_misses_nothing(tmp_path: Path, server: Server) -> None:
    study = InventedStudy(tmp_path, name="outage")
    directory = study.start("crop", "color")
    log_steps(directory, [10, 20])
    tracker = Tracker(study.manifest, server.uri)
    tracker.sync()
    server.stop()
    log_steps(directory, [30])
    for _ in range(2):
        with pytest.raises(TrackingUnavailable) as caught:
            tracker.sync()
        assert "\n" not in str(caught.value)
    server.start()
    log_steps(directory, [40])
    end(directory, "stopped")
    assert tracker.sync().updated == 1
    shown = contents(server.uri, "outage")["crop + color · seed 0"]
    assert shown["status"] == "KILLED"
    assert [step for step, *_ in shown["curves"]["training/loss"]] == [10, 20, 30, 40]


def test_a_server_that_is_not_there_or_says_nothing_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    study = InventedStudy(tmp_path)
    with pytest.raises(TrackingUnavailable):
        sync(study.manifest, f"http://127.0.0.1:{free_port()}")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(TrackingUnavailable):
            sync(study.manifest, f"http://127.0.0.1:{silent.getsockname()[1]}")
