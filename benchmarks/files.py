"""Files that are either whole or not there: everything is written beside its place and then moved into it."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

from benchmarks.errors import RunFailed, UserError

# What a run's folder holds: its result, or why it failed, and who trains it.
RESULT, FAILURE, LOCK = "result.json", "failure.json", ".lock"
CARD = "card.json"  # of a teacher, in its folder
CHECKSUM = "checksum"  # in a record, the SHA-256 of what else is in it


_asking = Lock()  # two threads at once would leave no mask


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file in `path`'s folder, then put it in `path`'s place.

    Raises:
        UserError: the folder cannot be written.
        RunFailed: writing failed half-way; what was at `path` is still there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from None
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:  # no space left, say
        raise RunFailed(f"writing {path}: {error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    """The process's mask for new files, which can only be read by setting it."""
    with _asking:
        mask = os.umask(0)
        os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8, atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write JSON, indented, atomically."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def check_path(key: str, path: str | None) -> None:
    """Refuse a path that the system cannot look at, too long or closed to this user, or that no record can name."""
    if path is None:
        return
    try:
        os.path.realpath(path).encode()
        (Path(path) / "-").stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise UserError(f"{key}={path}: {error.strerror}") from None
    except UnicodeEncodeError:
        raise UserError(f"{key}={path}, or a folder that it lies in, has a name that is not UTF-8") from None


def check_writable(key: str, folder: Path) -> None:
    """Refuse a folder that cannot be written, before anything is spent; made where there is none.

    Args:
        key: the setting that names it, for the message.
        folder: where files will go.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        what = "a file, not a folder" if folder.exists() else "a link to what is not there"
        raise UserError(f"{key}={folder} is {what}") from None
    except OSError as error:
        raise UserError(f"{key}={folder}: {error.strerror}") from None
    if not os.access(folder, os.W_OK):
        raise UserError(f"{key}={folder} cannot be written")


def check_file(key: str, path: Path) -> None:
    """Refuse a file that cannot be written; otherwise as `check_writable`."""
    check_path(key, str(path))
    if path.is_dir():
        raise UserError(f"{key}={path} is a folder, not a file")
    check_writable(key, path.parent)


def user_cache() -> Path:
    """The user's cache for this project."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kd-benchmarks"


def write_record(path: Path, content: dict[str, Any]) -> None:
    """Write JSON with a checksum of its content, atomically."""
    write_json(path, content | {CHECKSUM: checksum(content)})


def read_record(path: Path) -> dict[str, Any]:
    """What `write_record` wrote.

    Raises:
        ValueError: it is no JSON, or its content is not what was written.
        OSError: it cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(content, dict) or content.pop(CHECKSUM, None) != checksum(content):
        raise ValueError("its checksum does not match")
    return content


def record_at(path: Path) -> dict[str, Any]:
    """What `write_record` wrote; nothing where it is not there, or damaged."""
    try:
        return read_record(path)
    except (OSError, ValueError):
        return {}


def checksum(content: dict[str, Any]) -> str:
    """The SHA-256 of what JSON can say."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
