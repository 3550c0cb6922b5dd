"""Where a run is kept while it trains: checkpoints that are whole or not there, by training step."""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from benchmarks.errors import RunFailed, UserError, first_line
from benchmarks.files import write_atomically
from benchmarks.results import locked

DIGEST_SIZE = hashlib.sha256().digest_size


class Checkpoints:
    """The checkpoints of one run, in its folder.

    Each ends with the SHA-256 of what is before it, and the last two are kept: where one was truncated or altered,
    the one before it is used. Those of a cohort are committed together: each member's is written first, and older
    ones are deleted only when all are there. So after a kill at any moment there is a step that all members have.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, step: int) -> Path:
        return self.folder / f"checkpoint-{step:08d}.pt"

    def steps(self) -> set[int]:
        """Training steps with a checkpoint; those before the main training are negative."""
        found = (re.fullmatch(r"checkpoint-(-?\d+)\.pt", path.name) for path in self.folder.glob("checkpoint-*"))
        return {int(match[1]) for match in found if match}

    def newest(self) -> Path | None:
        """The latest checkpoint."""
        return self._path(max(steps)) if (steps := self.steps()) else None

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the state before training step `step`, counted from 0.

        Raises:
            RunFailed: it does not read back as it was written.
        """
        buffer, path = io.BytesIO(), self._path(step)
        torch.save(state, buffer)
        content = buffer.getbuffer()
        digest = hashlib.sha256(content).digest()

        def write(temporary: Path) -> None:
            with temporary.open("wb") as file:
                file.write(content)
                file.write(digest)

        write_atomically(path, write)
        if _content(path) is None:
            raise RunFailed(f"{path} does not read back as it was written; the checkpoint before it is still there")

    def discard_damaged(self) -> list[Path]:
        """Delete checkpoints that are not as they were written; returns which."""
        damaged = [path for path in map(self._path, sorted(self.steps())) if _content(path) is None]
        for path in damaged:
            path.unlink()
        return damaged

    def restore(self, step: int, device: torch.device, load: Callable[[dict[str, Any]], None]) -> None:
        """Hand the state of `step` to `load`, without executing anything in the file.

        Raises:
            UserError: the file is damaged, or not of this run.
        """
        path = self._path(step)
        try:
            content = _content(path)
            if content is None:
                raise ValueError("its checksum does not match")
            load(torch.load(io.BytesIO(content), map_location=device, weights_only=True))
        except (MemoryError, torch.OutOfMemoryError):  # the file is not to blame
            raise
        except Exception as error:  # a foreign state shows itself in almost any of them
            raise UserError(
                f"{path} cannot be continued from ({first_line(error)}).\n  Delete it to start this run afresh."
            ) from None

    def delete_older(self, step: int) -> None:
        """Keep the checkpoint of `step` and the one before it only."""
        steps = self.steps()
        kept = sorted(each for each in steps if each <= step)[-2:]
        for each in steps.difference(kept):
            self._path(each).unlink(missing_ok=True)

    def files(self) -> list[Path]:
        """All of them, and the halves of files that a kill left in the folder."""
        ours, of_safetensors = self.folder.glob(".*.*"), self.folder.glob(".tmp*")
        return [*map(self._path, self.steps()), *ours, *of_safetensors]

    def delete(self) -> None:
        """Delete all `files`."""
        for path in self.files():
            path.unlink(missing_ok=True)


def delete_leftovers(complete: Iterable[Path]) -> None:
    """Delete what a kill just behind a result leaves in a run's or teacher's folder.

    Where another process is at work it stays, and in a folder that can only be read, which serves all the same.
    """
    for checkpoints in map(Checkpoints, complete):
        if checkpoints.files():
            with contextlib.suppress(UserError), locked(checkpoints.folder):
                checkpoints.delete()


def _content(path: Path) -> memoryview | None:
    """A checkpoint's content, None where it does not fit its checksum."""
    try:
        whole = memoryview(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    content, digest = whole[:-DIGEST_SIZE], whole[-DIGEST_SIZE:]
    return content if hashlib.sha256(content).digest() == digest else None
