"""Disks that are full or may not be written: a clear end, nothing half-written, and the same command continues."""

import contextlib
import os
import shutil
import stat
import subprocess

import pytest
import wandb
from commands import at_step, files, result, run_folder, same, weights, without_times

import analysis
from benchmarks.files import write_json


@pytest.fixture
def disk(tmp_path):
    """A small file system of its own, and a call that mounts it anew with other options."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(*options):
        return subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "none", place], capture_output=True)

    if mount("size=400k").returncode:
        pytest.skip("mounting is not permitted here")
    yield place, lambda *options: mount("remount", *options)
    subprocess.run(["umount", "-l", place], check=True)


def told(capsys, status, *parts):
    """A few clear lines."""
    shown = capsys.readouterr().err
    assert "Traceback" not in shown
    assert 1 <= len(shown.splitlines()) <= 6
    for part in parts:
        assert part in shown
    return status


def test_a_full_disk_ends_a_run_and_the_same_command_continues_it(distil, disk, tmp_path, capsys):
    place, remount = disk
    assert distil("method=none", f"output={tmp_path / 'whole'}") == 0
    capsys.readouterr()
    line = ["method=none", f"output={place / 'runs'}", "checkpoint.every_steps=1"]
    assert told(capsys, distil(*line), "No space left", str(place)) == 1
    assert files(run_folder(place / "runs", "none")) <= {".lock", "code.json"}
    remount("size=20m")
    assert distil(*line) == 0
    assert same(weights(place / "runs", "none"), weights(tmp_path / "whole", "none"))
    history = without_times(result(place / "runs", "none")["history"])
    assert history == without_times(result(tmp_path / "whole", "none")["history"])


def test_a_store_that_can_only_be_read_serves_with_what_a_kill_left_there(distil, teacher_root, disk, tmp_path):
    place, remount = disk
    remount("size=20m")
    store = shutil.copytree(teacher_root, place / "store")
    (card,) = store.rglob("card.json")
    card.with_name("checkpoint-00000006.pt").write_bytes(b"left")
    remount("ro")
    assert distil("method=kd", f"teacher.root={store}") == 0


def test_a_disk_that_fills_up_keeps_the_checkpoint_before(distil, disk, tmp_path, capsys):
    place, remount = disk
    remount("size=20m")
    assert distil("method=none", f"output={tmp_path / 'whole'}") == 0

    def fill(display):
        with (place / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    line = ["method=none", f"output={place / 'runs'}", "checkpoint.every_steps=2"]
    capsys.readouterr()
    with at_step(3, fill):
        assert told(capsys, distil(*line), "No space left") == 1
    kept = [name for name in files(run_folder(place / "runs", "none")) if name.startswith("checkpoint")]
    assert kept == ["checkpoint-00000002.pt"]
    (place / "ballast").unlink()
    assert distil(*line) == 0
    assert "continued at step 2" in capsys.readouterr().out
    assert same(weights(place / "runs", "none"), weights(tmp_path / "whole", "none"))


@pytest.mark.parametrize("full", ["size=4k", "nr_inodes=12"])
def test_a_full_disk_under_the_log_of_an_offline_run(full, distil, disk, capsys):
    place, remount = disk
    remount(full)
    line = ["method=none", f"output={place / 'runs'}", "tracking.mode=offline"]
    capsys.readouterr()
    assert told(capsys, distil(*line), "No space left", str(place)) == 1
    wandb.teardown()  # as at the end of the command
    remount("size=20m", "nr_inodes=1000")
    assert distil(*line) == 0
    wandb.teardown()  # its service writes the last records a moment after a run's end
    logs = analysis.load(str(place / "runs"))
    assert logs.runs["state"].tolist() == ["complete"]
    assert logs.history["epoch"].tolist() == [row["epoch"] for row in result(place / "runs", "none")["history"]]


def test_what_is_written_may_be_read_by_whom_the_users_mask_says(tmp_path):
    """Temporary files that take a file's place are their owner's alone."""
    before = os.umask(0o027)
    try:
        write_json(tmp_path / "a.json", {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o640


@pytest.mark.parametrize("begun", [False, True], ids=["new", "begun"])
def test_a_read_only_output_folder(begun, distil, disk, capsys):
    place, remount = disk
    if begun:
        (place / "runs").mkdir()
    remount("ro")
    status = distil("method=none", f"output={place / 'runs'}")
    assert told(capsys, status, "output", str(place)) == 2


def test_a_read_only_store(distil, disk, capsys, tmp_path):
    place, remount = disk
    (place / "store").mkdir()
    remount("ro")
    status = distil("method=kd", f"teacher.root={place / 'store'}")
    assert told(capsys, status, str(place / "store")) == 2
