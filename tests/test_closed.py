"""Folders in a shared store or output that are closed to this user, as where another's umask was 077."""

import errno
import os
from pathlib import Path

import pytest
from commands import run_folder

from benchmarks.files import LOCK
from benchmarks.suite.states import is_locked


@pytest.fixture
def close(monkeypatch):
    """A call that closes a folder, also to root."""

    def closed(folder):
        stat = os.stat

        def refuse(path, *arguments, **settings):
            if not isinstance(path, int) and folder in Path(os.fsdecode(path)).parents:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
            return stat(path, *arguments, **settings)

        monkeypatch.setattr(os, "stat", refuse)

    return closed


def test_a_run_of_somebody_elses_is_named(distil, output, close, capsys):
    assert distil("method=none") == 0
    folder = run_folder(output, "none")
    close(folder)
    capsys.readouterr()
    assert distil("method=none") == 2
    assert f"{folder / 'result.json'} cannot be read: Permission denied" in capsys.readouterr().err
    assert not is_locked(folder / LOCK)


def test_a_teacher_of_somebody_elses_is_named(distil, teacher_root, close, capsys):
    (card,) = teacher_root.rglob("card.json")
    close(card.parent)
    assert distil("method=kd") == 2
    assert f"{card.parent} cannot be read: Permission denied" in capsys.readouterr().err


def test_images_of_somebody_elses_are_not_looked_for(distil, tmp_path, close, capsys):
    for name in ("theirs", "ours"):
        (tmp_path / name / "data").mkdir(parents=True)
    assert distil("method=none", f"data.root={tmp_path / 'theirs' / 'data'}") == 0
    close(tmp_path / "theirs")
    assert distil("method=none", f"data.root={tmp_path / 'ours' / 'data'}") == 0
    assert "complete already" in capsys.readouterr().out
