"""W&B's logs for tests: written by the SDK itself, or framed by hand from given records."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb
from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

from analysis.records import Losses, records

BLOCK = 32768


def log(
    folder: Path,
    rows: Sequence[Mapping[str, Any]] = (),
    *,
    id: str = "run1",
    config: Mapping[str, Any] | None = None,
    summary: Mapping[str, Any] | None = None,
    mode: str = "offline",
    project: str = "tests",
    define: Mapping[str, str] | None = None,
) -> Path:
    """Log a run as `benchmarks.tracking` does; returns its folder.

    Args:
        folder: where W&B's files go.
        rows: of the history.
        id, config, summary, mode, project: of the run.
        define: metrics whose summary is not their last value, as {"loss": "min"}.
    """
    settings = wandb.Settings(
        silent=True, console="off", disable_git=True, x_disable_meta=True, x_disable_machine_info=True
    )
    run = wandb.init(
        project=project,
        id=id,
        name=f"name of {id}",
        group="a group",
        dir=folder,
        mode=mode,  # type: ignore[arg-type]
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
