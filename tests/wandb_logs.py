"""W&B's logs for tests: what may be logged, written by the SDK itself or framed by hand, and read back."""

from __future__ import annotations

import math
import struct
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb
from commands import PAIR
from hypothesis import strategies as st
from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

from analysis.offline import read
from analysis.records import Losses, records

BLOCK = 32768

# Keys as a program logs them; W&B takes a dot as nesting, strips dashes and keeps leading underscores to itself.
KEYS = st.text(st.characters(exclude_categories=["C"], exclude_characters="."), min_size=1).filter(
    lambda key: key.strip("-") == key and key[0] != "_"
)
NUMBERS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats())
SCALARS = st.one_of(NUMBERS, st.booleans(), st.text(st.characters(exclude_categories=["Cs"])), st.none())
TREES = st.recursive(
    st.one_of(SCALARS, st.integers()).filter(lambda value: value == value),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, min_size=1, max_size=3),
    max_leaves=6,
)
METRICS = st.one_of(
    SCALARS, st.lists(st.floats(), max_size=3), st.dictionaries(KEYS, NUMBERS, min_size=1, max_size=2)
)
ROWS = st.lists(st.dictionaries(KEYS.filter(lambda key: key != "epoch"), METRICS, max_size=5), max_size=4)


def same_values(one: Any, other: Any) -> bool:
    """Equal, NaN to NaN; W&B writes 2.0 as 2, so that numbers are compared by value."""
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_values, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_values(one[key], other[key]) for key in one)
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def log(
    folder: Path,
    rows: Sequence[Mapping[str, Any]] = (),
    *,
    config: Mapping[str, Any] | None = None,
    summary: Mapping[str, Any] | None = None,
    define: Mapping[str, str] | None = None,
) -> Path:
    """Log a run as `benchmarks.tracking` does; returns its folder.

    Args:
        folder: where W&B's files go.
        rows: of the history.
        config, summary: of the run.
        define: metrics whose summary is not their last value, as {"loss": "min"}.
    """
    settings = wandb.Settings(
        silent=True, console="off", disable_git=True, x_disable_meta=True, x_disable_machine_info=True
    )
    run = wandb.init(
        project="tests",
        id="run1",
        name="name of run1",
        group="a group",
        dir=folder,
        mode="offline",
        config=dict(config or {}),
        reinit="create_new",
        settings=settings,
    )
    run.define_metric("epoch")
    run.define_metric("*", step_metric="epoch")
    for metric, kind in (define or {}).items():
        run.define_metric(metric, summary=kind)
    for row in rows:
        run.log(dict(row))
    run.summary.update(dict(summary or {}))
    run.finish()
    folder = Path(run.settings.sync_dir)
    _wait_for_the_end(log_file(folder))
    return folder


def _wait_for_the_end(path: Path) -> None:
    """W&B's own process writes the file, and `finish` does not wait for the last of it."""
    for _ in range(1000):
        kinds = [Record.FromString(raw).WhichOneof("record_type") for raw in records(path, Losses())]
        if kinds[-1:] == ["exit"]:
            return
        time.sleep(0.01)
    raise AssertionError(f"{path} does not end")


def log_file(folder: Path) -> Path:
    """The one `.wandb` file in a run's folder."""
    (path,) = folder.glob("*.wandb")
    return path


def framed(records: Iterable[bytes]) -> bytes:
    """Records as a `.wandb` file's content."""
    out = bytearray(b":W&B" + struct.pack("<HB", 0xBEE1, 0))
    for record in records:
        left, first = memoryview(record), True
        while True:
            room = BLOCK - len(out) % BLOCK
            if room < 7:
                out += bytes(room)
                continue
            part, left = left[: room - 7], left[room - 7 :]
            kind = (1 if not left else 2) if first else (4 if not left else 3)
            out += struct.pack("<IHB", zlib.crc32(bytes([kind]) + part), len(part), kind) + part
            first = False
            if not left:
                break
    return bytes(out)


class Tracked:
    """One W&B run, read back."""

    def __init__(self, path: Path) -> None:
        self.path, self.run = path, read(path)
        assert not self.run.note
        self.id, self.name, self.group = self.run.id, self.run.name, self.run.group
        self.config, self.summary = self.run.config, self.run.summary
        columns = self.run.history
        self.rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        parsed = [Record.FromString(raw) for raw in records(path, Losses())]
        # None where the service has not written the record yet.
        runs = (record.run.project for record in parsed if record.WhichOneof("record_type") == "run")
        exits = (record.exit.exit_code for record in parsed if record.WhichOneof("record_type") == "exit")
        self.project, self.exit_code = next(runs, None), next(exits, None)


def tracked(output: Path, label: str) -> list[Tracked]:
    """Every finished offline run of a label; W&B's service writes the last records a moment after it ended."""
    paths, deadline = sorted((output / PAIR / label).rglob("offline-run-*/*.wandb")), time.monotonic() + 20
    while True:
        runs = [Tracked(path) for path in paths]
        if all(run.exit_code is not None for run in runs) or time.monotonic() > deadline:
            return runs
        time.sleep(0.1)
