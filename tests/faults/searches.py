"""Studies of seconds, to be killed, and what of them must not depend on that.

One worker that trains one trial at a time without pruning promises the very study that nothing disturbed. In
cohorts, and with Hyperband, what is tried next depends on what was known at the moment: what is promised there is
the number of trials, none twice, and that each is worth what its own command reaches alone.
"""

from __future__ import annotations

import contextlib
import io
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from commands import PAIR, TINY, few_digits, merge, without_times
from optuna.trial import FrozenTrial, TrialState
from safetensors.torch import load_file

from benchmarks import run as run_command
from benchmarks.cli import main
from benchmarks.files import read_record
from benchmarks.tensors import tensors_sha256
from sweeps import findings
from sweeps import run as sweep_command
from sweeps.findings import Findings
from sweeps.ledger import FINISHED, POINT, origin
from sweeps.objective import COMMAND, TOP1

NAME, TRIALS = "killed", 6  # one more than TPE draws at random
SMALL = (
    *("space=aftkd_blocks", f"study={NAME}", f"trials={TRIALS}", "confirm=1", "heartbeat=0.2"),
    *("data.validation=0.25", "train.batch_size=8", "train.max_steps=3", "train.lr=0.02", "teacher.epochs=1"),
)


def _study(folder: Path, *words: str) -> int:
    base = [word for word in TINY if not word.startswith("train.epochs")]
    return main(sweep_command.COMMAND, merge(base, [*SMALL, f"output={folder / 'runs'}", *words]))


def one_by_one(folder: Path) -> int:
    """On SQLite, without pruning."""
    return _study(folder, f"storage={_sqlite(folder)}", "budget=2", "cohort=1", "pruner=none")


def in_cohorts(folder: Path) -> int:
    """On a journal, two trials at a time, pruned by Hyperband."""
    return _study(folder, f"storage={_journal(folder)}", "budget=3", "cohort=2", "checkpoint.every_steps=2")


def _sqlite(folder: Path) -> str:
    return f"sqlite:///{folder}/studies.db"


def _journal(folder: Path) -> str:
    return f"journal:///{folder}/studies.log"


def table(folder: Path) -> dict[str, Any]:
    """All that a study found, by its trials' places, and the weights and histories behind it."""
    found = findings.find(_sqlite(folder), NAME)
    rows = [_row(folder, trial) for trial in _finished(found)]
    assert found.best is not None
    assert found.gain is not None
    best = rows.index(_row(folder, found.best))
    return {"trials": rows, "best": best, "tuned": found.gain.ours, "default": found.gain.theirs}


def _finished(found: Findings) -> Sequence[FrozenTrial]:
    """The finished trials in the order of their places: as many as were asked for, none twice, defaults first."""
    finished = sorted((trial for trial in found.trials if trial.state in FINISHED), key=origin)
    assert len(finished) == TRIALS
    assert len({origin(trial) for trial in finished}) == TRIALS
    assert [trial.user_attrs.get(POINT) for trial in finished] == [0] + [None] * (TRIALS - 1)
    return finished


def _row(folder: Path, trial: FrozenTrial) -> tuple[Any, ...]:
    """What a trial is, and what its run left."""
    values = (trial.params, trial.state, trial.value, trial.intermediate_values)
    return *values, *_left(folder / "runs" / NAME / PAIR / f"trial-{origin(trial)}")


def _left(runs: Path) -> tuple[Any, ...]:
    """History and weights of the one run of the studies' seed; the best trial was confirmed with another."""
    records = {path.parent: read_record(path) for path in runs.rglob("result.json")}
    ((run, record),) = [(run, each) for run, each in records.items() if each["config"]["seed"] == 0]
    return without_times(record["history"]), tensors_sha256(load_file(run / "student.safetensors"))


def as_alone(folder: Path) -> list[str]:
    """Complete trials whose own command, alone and undisturbed, reaches something else."""
    found = findings.find(_journal(folder), NAME)
    assert found.gain is not None
    wrong = []
    for trial in _finished(found):
        if trial.state == TrialState.COMPLETE:
            history, weights = _left(_alone(folder, trial))
            if _row(folder, trial)[-3:] != (_reports(history), history, weights):
                wrong.append(f"trial {trial.number}")
            assert trial.value == history[-1][TOP1]
    return wrong


def _reports(history: list[dict[str, float]]) -> dict[int, float]:
    return {int(row["epoch"]): row[TOP1] for row in history}


def _alone(folder: Path, trial: FrozenTrial) -> Path:
    """Runs a trial's command; where its run is."""
    output = folder / "alone" / str(trial.number)
    words = shlex.split(trial.user_attrs[COMMAND])[3:]
    with few_digits(), contextlib.redirect_stdout(io.StringIO()):
        assert main(run_command.COMMAND, [*words, f"output={output}", "tracking.mode=disabled"]) == 0
    return output
