"""Damaged files and kills in short; `python tests/faults` is the long version, with a table."""

import subprocess
import sys
from pathlib import Path

import pytest
from faults.__main__ import KILLS
from faults.damage import SUBJECTS, try_damages

ROOT = Path(__file__).parent.parent
FLIPS = 60


@pytest.mark.parametrize("kind", SUBJECTS)
def test_a_damaged_file_is_refused_or_recovered_from(kind, tmp_path):
    outcome = try_damages(SUBJECTS[kind](tmp_path), FLIPS)
    assert outcome.tried >= FLIPS
    assert not outcome.wrong, "\n".join(outcome.wrong[:10])


def faults(*words):
    """The command that prints the table; gives its exit status and its rows by the fault's name."""
    command = [sys.executable, "tests/faults", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    rows = [line.rsplit(maxsplit=3) for line in done.stdout.splitlines() if line[:1].strip()]
    return done.returncode, {row[0].strip(): row[1:] for row in rows}, done.stdout + done.stderr


@pytest.mark.parametrize(
    "counts",
    [
        {"run": 2, "suite": 0, "teacher": 0, "cache": 5, "sweep": 0, "journal": 0},
        pytest.param(KILLS, marks=pytest.mark.slow),
    ],
    ids=["few", "many"],
)
def test_kills_lose_nothing(counts):
    status, rows, shown = faults("only=kills", *(f"kills.{name}={count}" for name, count in counts.items()))
    assert status == 0, shown
    for name, count in counts.items():
        if count:
            assert rows[f"SIGKILL: {name}"] == [str(count), str(count), "0"]
