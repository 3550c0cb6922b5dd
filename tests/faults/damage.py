"""Files cut at every length class and with flipped bits: each is refused, recovered from, or says what it said."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pandas as pd
import pyarrow.parquet as pq
import torch
from logged import logged
from rich.console import Console
from small_cifar100 import Copy
from sqlalchemy.engine import make_url
from studies import SMALL, formula, plan_of
from wandb_logs import log, log_file

from analysis.logs import assemble, load
from analysis.parquet import save
from benchmarks import models, teachers, weight_files
from benchmarks.data import cifar100
from benchmarks.data.dataset import PARTS
from benchmarks.errors import UserError
from benchmarks.files import write_record
from benchmarks.identity import code_version
from benchmarks.results import COMPLETE, RunFolder
from benchmarks.tensors import read_tensors, tensors_sha256, write_tensors
from benchmarks.training.checkpoints import Checkpoints
from sweeps import findings
from sweeps.ledger import FINISHED
from sweeps.objective import COMMAND
from sweeps.storage import open_storage
from sweeps.worker import Worker

SMALL_LENGTHS = (0, 1, 3, 4, 7, 8, 9, 16, 31, 32, 33, 64, 100)
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Subject:
    """A kind of file, as it is intact in a folder.

    Attributes:
        path: the file.
        read: what the program makes of it, comparable by ==; None where it is as good as not there.
        allowed: what it may say where it is damaged, beside a refusal.
    """

    path: Path
    read: Callable[[], Any]
    allowed: Callable[[Any], bool]


@dataclass
class Outcome:
    """What became of damaged files."""

    tried: int = 0
    wrong: list[str] = field(default_factory=list)


def damages(content: bytes, flips: int) -> Iterator[tuple[str, bytes]]:
    """Pieces of a content, and the whole of it with one bit changed or a stretch overwritten."""
    size, draw = len(content), random.Random(0)
    lengths = {*SMALL_LENGTHS, *(size * k // 8 for k in range(8)), size - 1, size - 8, size - 33}
    for length in sorted(length for length in lengths if 0 <= length < size):
        yield f"cut at {length} of {size}", content[:length]
    for k in range(flips := min(flips, size)):
        position, bit = draw.randrange(k * size // flips, (k + 1) * size // flips), draw.randrange(8)
        changed = bytes([content[position] ^ 1 << bit])
        yield f"bit {bit} of byte {position} of {size}", content[:position] + changed + content[position + 1 :]
    for k in range(flips // 8):
        start = draw.randrange(size)
        stretch = draw.randbytes(min(size - start, 1 + 10**k % 64))
        rest = content[start + len(stretch) :]
        yield f"{len(stretch)} bytes from {start} of {size}", content[:start] + stretch + rest
    yield "one byte more", content + b"\0"
    yield "zeros", bytes(size)


def try_damages(subject: Subject, flips: int) -> Outcome:
    """Read a file in every state of damage; what is neither refused nor allowed is wrong."""
    content, outcome = subject.path.read_bytes(), Outcome()
    assert subject.allowed(subject.read()), "the intact file is not read"
    for name, damaged in damages(content, flips):
        subject.path.write_bytes(damaged)
        outcome.tried += 1
        try:
            value = subject.read()
        except UserError:
            pass
        except Exception as error:
            outcome.wrong.append(f"{name}: {type(error).__name__}: {error}")
        else:
            if not subject.allowed(value):
                outcome.wrong.append(f"{name}: read as {str(value)[:100]}")
    subject.path.write_bytes(content)
    return outcome


def checkpoint(folder: Path) -> Subject:
    """The newest of two: the one before it may stand in."""
    kept = Checkpoints(folder)
    for step in (2, 4):
        kept.save(step, {"weights": torch.arange(300) * step, "step": step})
    content = kept._path(4).read_bytes()

    def read() -> Any:
        if not kept._path(4).exists():
            kept._path(4).write_bytes(content)
        kept.discard_damaged()
        found: dict[str, Any] = {}
        kept.restore(max(kept.steps()), CPU, found.update)
        return found["step"], found["weights"].tolist()

    return Subject(kept._path(4), read, lambda value: value[1] == [k * value[0] for k in range(300)])


def only(expected: Any) -> Callable[[Any], bool]:
    return lambda value: bool(value == expected)


def tensors(folder: Path) -> Subject:
    """Our own safetensors."""
    content = {"weight": torch.randn(20, 20), "steps": torch.tensor(7)}
    write_tensors(folder / "a.safetensors", content, {"network": "resnet8", "top1": "91.25"})

    def read() -> Any:
        state = read_tensors(folder / "a.safetensors")
        return tensors_sha256(state), weight_files.read(folder / "a.safetensors").claimed_top1

    return Subject(folder / "a.safetensors", read, only((tensors_sha256(content), 91.25)))


def published(folder: Path) -> Subject:
    """Another project's checkpoint."""
    network = models.create("resnet8", 10)
    torch.save({"model": network.state_dict(), "best_acc": 70.5}, folder / "a.pth")
    expected = tensors_sha256(network.state_dict())
    return Subject(
        folder / "a.pth", lambda: tensors_sha256(weight_files.read(folder / "a.pth").state), only(expected)
    )


def result(folder: Path) -> Subject:
    content = {"status": COMPLETE, "summary": {"test/top1_last": 71.28}, "history": [{"epoch": 1, "lr": 0.05}]}
    write_record(folder / "result.json", content)
    return Subject(folder / "result.json", RunFolder(folder, "id", 0).result, only(content))


def card(folder: Path) -> Subject:
    content = dict.fromkeys(teachers.CARD_KEYS, "x") | {"top1": 71.28}
    write_record(folder / "card.json", content)
    return Subject(folder / "card.json", lambda: teachers.read_card(folder / "card.json"), only(content))


def code(folder: Path) -> Subject:
    """What code began a run: without it, nobody can warn of another one."""
    run = RunFolder(folder, "id", 0)
    run.remember_code(code_version())
    return Subject(folder / "code.json", lambda: (run.remember_code(code_version()), None)[1], only(None))


def _images(folder: Path, cache: Path) -> list[str]:
    """Digests of the parts of a CIFAR-100."""
    return [cifar100._content_sha256(cifar100.load(folder, cache, part)) for part in PARTS]


def parquet(folder: Path) -> Subject:
    """A small CIFAR-100, whose content is known as the real one's is."""
    copy = Copy()
    copy.parquet(folder)
    path = folder / "train.parquet"
    pq.write_table(copy.table("train").slice(0, 40), path)
    intact = _images(folder, folder / "intact")
    cifar100.CONTENT |= dict(zip((40, len(copy.labels["test"])), intact, strict=True))

    def read() -> list[str]:
        return _images(folder, folder / "cache" / str(hash(path.read_bytes())))

    return Subject(path, read, only(intact))


def cache(folder: Path) -> Subject:
    """Decoded images."""
    Copy().parquet(folder)
    intact = _images(folder, folder / "cache")
    (path,) = (folder / "cache").glob("*-train-*")
    return Subject(path, lambda: _images(folder, folder / "cache"), only(intact))


def _figures(source: Path) -> set[tuple[Any, ...]]:
    """Every figure that a table or a plot would take from the logs."""
    logs = load([str(source)])
    history = logs.history.get(["epoch", "test/top1"], pd.DataFrame())
    rows = {("row", *row) for row in history.itertuples(index=False)}
    done = logs.runs[logs.runs["state"] == "complete"]
    return rows | {("last", name, value) for name, value in done["top1_last"].items()}


def wandb_log(folder: Path) -> Subject:
    """A run's log: what is damaged is left out, what is left is as it was logged."""
    run = logged(top1=71.28)
    rows = [{"epoch": k + 1, "test/top1": 60 + k / 7} for k in range(30)]
    place = log(folder, rows, config=run.config, summary=run.summary)
    intact = _figures(folder)
    return Subject(log_file(place), lambda: _figures(folder), lambda value: value <= intact)


def export(folder: Path) -> Subject:
    """Exported runs."""
    save(assemble([logged(top1=71.28), logged("at", top1=72.5)]), folder / "runs.parquet")
    intact = _figures(folder / "runs.parquet")
    return Subject(folder / "runs.parquet", lambda: _figures(folder / "runs.parquet"), only(intact))


def _study(storage: str) -> Subject:
    """A finished study in a file, its best trial confirmed."""
    path = Path(make_url(storage).database or "")
    words = [*SMALL, "space=aftkd", "budget=3", "trials=4", "cohort=2", f"storage={storage}"]
    plan = plan_of(*words, f"output={path.parent}")
    with formula(lambda variant, seed: 60 + seed + 7 * variant.method.degree):
        Worker(plan, open_storage(storage), MagicMock(), Console(file=io.StringIO())).run()
    intact = _found(storage, plan.name)
    assert len(intact) > 6
    return Subject(path, lambda: _found(storage, plan.name), lambda value: value <= intact)


def _found(storage: str, name: str) -> set[str]:
    """All that a study's trials and its confirmation say."""
    found = findings.find(storage, name)
    said = [
        (trial.number, trial.state.name, trial.value, trial.params, trial.user_attrs[COMMAND])
        for trial in found.trials
        if trial.state in FINISHED
    ]
    gains = zip(found.gain.ours, found.gain.theirs, strict=True) if found.gain else ()
    return {repr(each) for each in (*said, *gains, found.settings)}


def sqlite(folder: Path) -> Subject:
    subject = _study(f"sqlite:///{folder}/studies.db")
    return replace(subject, allowed=only(subject.read()))


def journal(folder: Path) -> Subject:
    """A part of a journal is a study that is not so far yet."""
    return _study(f"journal:///{folder}/studies.log")


SUBJECTS: dict[str, Callable[[Path], Subject]] = {
    "checkpoint": checkpoint,
    "own safetensors": tensors,
    "published .pth": published,
    "result.json": result,
    "card.json": card,
    "code.json": code,
    "parquet data": parquet,
    "decoded images": cache,
    ".wandb": wandb_log,
    "exported runs": export,
    "study on SQLite": sqlite,
    "study's journal": journal,
}
