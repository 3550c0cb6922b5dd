"""Online logging, and uploading of offline runs, to a server that takes what W&B's SDK sends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
import wandb
from commands import PAIR, result, run_folder

from benchmarks import tracking

pytestmark = pytest.mark.slow
KEY = "local" + "0" * 40


class Server:
    """openwandb on loopback, with SQLite."""

    def __init__(self, folder):
        pytest.importorskip("openwandb")
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"

    def start(self):
        place = ["--host", "127.0.0.1", "--port", str(self.port), "--data-dir", str(self.folder)]
        words = [sys.executable, "-m", "openwandb", "serve", *place, "--log-level", "warning"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log)
        _wait_for(f"{self.address}/login", self.process)

    def stop(self):
        self.process.kill()
        self.process.wait(timeout=30)


@pytest.fixture
def server(distil, tmp_path_factory, monkeypatch):  # in this order: `distil` forgets logins
    server = Server(tmp_path_factory.mktemp("openwandb"))
    monkeypatch.setenv("WANDB_BASE_URL", server.address)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    wandb.teardown()  # it keeps the address of the server before
    server.start()
    yield server
    wandb.teardown()
    server.stop()


def _wait_for(url, server):
    for _ in range(300):
        assert server.poll() is None
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the server does not answer")


def check(server, output, label):
    """The server has of a run what the run's own record says."""
    stated = result(output, label)

    def get(path=""):
        url = f"{server.address}/api/v2/runs/{run_folder(output, label).name}{path}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)

    config = {key: value["value"] for key, value in get("/config")["config"].items() if key != "_wandb"}
    assert config == stated["config"]
    run = get()["run"]
    assert run["state"] == "finished"
    assert {name: run["summary"][name] for name in stated["summary"]} == stated["summary"]
    assert run["summary"]["status"] == "complete"
    metrics = get("/metrics")["metrics_by_key"]
    names = set(stated["history"][0])
    assert {name: [entry["value"] for entry in metrics[name]] for name in names} == {
        name: [row[name] for row in stated["history"]] for name in names
    }


def sync(home, *words):
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "sync", *words],
        env=os.environ | {"HOME": str(home)},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_the_server_has_online_and_synced_runs_whole(server, distil, tmp_path):
    assert distil("method=none", "tracking.mode=online", f"output={tmp_path / 'online'}") == 0
    assert result(tmp_path / "online", "none")["wandb"].startswith(server.address)
    check(server, tmp_path / "online", "none")

    assert distil("method=none", "seed=1", "tracking.mode=offline", f"output={tmp_path / 'offline'}") == 0
    (folder,) = (tmp_path / "offline" / PAIR / "none").glob("*/wandb/offline-run-*")
    sync(tmp_path, str(folder))
    check(server, tmp_path / "offline", "none")


@pytest.mark.parametrize("fail", [signal.SIGKILL, signal.SIGSTOP], ids=["gone", "silent"])
def test_a_server_that_fails_in_the_middle_loses_no_row(fail, server, distil, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tracking, "UPLOAD_PATIENCE_S", 5)
    log = tracking.Tracker.log

    def log_once(tracker, row):
        log(tracker, row)
        server.process.send_signal(fail)

    with monkeypatch.context() as patch:
        patch.setattr(tracking.Tracker, "log", log_once)
        assert distil("method=none", "tracking.mode=online", f"output={tmp_path}") == 0
    words = ["--no-skip-online", result(tmp_path, "none")["wandb"]]
    assert f"`wandb sync {' '.join(words)}`" in capsys.readouterr().err

    server.stop()
    server.start()
    sync(tmp_path, *words)
    check(server, tmp_path, "none")


def test_a_server_that_fails_between_two_runs_of_a_cohort(server, distil, tmp_path, monkeypatch):
    """Both are logged offline."""
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "3")
    monkeypatch.setattr(tracking, "UPLOAD_PATIENCE_S", 3)
    begin = tracking.Tracker.__init__

    def begin_one(*arguments, **settings):
        begin(*arguments, **settings)
        server.stop()

    monkeypatch.setattr(tracking.Tracker, "__init__", begin_one)
    assert distil("methods=[none,kd]", "tracking.mode=online", f"output={tmp_path}") == 0
    server.start()
    for label in ("none", "kd"):
        folder = result(tmp_path, label)["wandb"]
        assert "/offline-run-" in folder
        sync(tmp_path, folder)
        check(server, tmp_path, label)
