"""Online logging, and uploading of offline runs, to a server that takes what W&B's SDK sends."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from commands import PAIR, result, run_folder

pytestmark = pytest.mark.slow
KEY = "local" + "0" * 40


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """openwandb on loopback, with SQLite."""
    pytest.importorskip("openwandb")
    folder = tmp_path_factory.mktemp("openwandb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [
        "serve",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--data-dir",
        str(folder),
        "--log-level",
        "warning",
    ]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([sys.executable, "-m", "openwandb", *words], stdout=log, stderr=log)
        try:
            _wait_for(f"http://127.0.0.1:{port}/login", server)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(timeout=30)


def _wait_for(url, server):
    for _ in range(300):
        assert server.poll() is None
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("the server does not answer")


def check(address, output, label):
    """The server has of a run what the run's own record says."""
    stated = result(output, label)

    def get(path=""):
        url = f"{address}/api/v2/runs/{run_folder(output, label).name}{path}"
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


def test_online_run_and_synced_offline_run(address, distil, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", address)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert distil("method=none", "tracking.mode=online", f"output={tmp_path / 'online'}") == 0
    assert result(tmp_path / "online", "none")["wandb"].startswith(address)
    check(address, tmp_path / "online", "none")

    assert distil("method=none", "seed=1", "tracking.mode=offline", f"output={tmp_path / 'offline'}") == 0
    (folder,) = (tmp_path / "offline" / PAIR / "none").glob("*/wandb/offline-run-*")
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "sync", str(folder)],
        env=os.environ | {"HOME": str(tmp_path)},
        cwd=Path(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    check(address, tmp_path / "offline", "none")
