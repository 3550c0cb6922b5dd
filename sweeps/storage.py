"""Where studies are kept: SQLite, PostgreSQL, a journal file, or Optuna's gRPC proxy in front of a database."""

from __future__ import annotations

import os
import random
import sqlite3
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
import sqlalchemy.event
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.storages import BaseStorage, GrpcStorageProxy, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from benchmarks.errors import RunFailed, UserError, first_line, require

FORMS = "sqlite:///FILE, postgresql://USER@HOST/DATABASE, journal:///FILE, grpc://HOST:PORT"
SECONDS_FOR_A_LOCK = 60  # that a writer waits for another on SQLite
CREATIONS = 3  # attempts, where several processes create the tables at once
SECONDS_TO_CONNECT = 10
PSYCOPG = "postgresql+psycopg"  # psycopg 3, the driver that the project installs
CONNECTION = {"connect_timeout": SECONDS_TO_CONNECT}


def open_storage(url: str, create: bool = True) -> BaseStorage:
    """The storage of a URL.

    Opening takes a tenth of a second, and reads all that a file holds: once in a process is enough.

    Args:
        url: as typed.
        create: its file or tables where there are none.

    Raises:
        UserError: it cannot be opened. No message shows the URL's password.
    """
    _quieten()
    try:
        parsed = make_url(url)
    except (SQLAlchemyError, ValueError):  # ValueError: a port that is no number
        raise UserError(f"storage={hidden(url)} is not a URL; one of {FORMS} is expected") from None
    opener = _OPENERS.get(parsed.get_backend_name())
    if opener is None:
        raise UserError(f"storage={hidden(url)}: {parsed.get_backend_name()} is none of {FORMS}")
    is_file = opener in (_open_sqlite, _open_journal)
    if not is_file and url.count("@") > 1:  # all but the last might be a password's, and be shown as a host's
        raise UserError("storage=… has more than one @; in a user's name or password it is written %40")
    if is_file and (parsed.host or not parsed.database):
        raise UserError(f"storage={hidden(url)}: a file is named by {parsed.get_backend_name()}:///FILE")
    if is_file and not create:
        require(Path(parsed.database or "").is_file(), f"storage={hidden(url)}: there is no such file")
    try:
        if opener is _open_postgresql and not create:
            require(_has_tables(parsed), f"storage={hidden(url)}: there is no study yet")
        return _open_file(url, lambda: opener(parsed)) if is_file else opener(parsed)
    except ImportError as error:
        remedy = "pip install 'kd-benchmarks[studies]'"
        raise UserError(f"storage={hidden(url)}: {first_line(error)}; {remedy}") from None
    except (SQLAlchemyError, sqlite3.OperationalError, StorageInternalError, OSError, ValueError) as error:
        raise UserError(f"storage={hidden(url)}: {_said(error)}") from None


def _quieten() -> None:
    """Leave the talking to us: no line for each trial, no warning of what has been experimental for years."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=ExperimentalWarning)


def _open_file(url: str, opener: Callable[[], BaseStorage]) -> BaseStorage:
    """A storage that is a file, all of it read once: a database's server would look after its own."""
    with read_whole(url):
        storage = opener()
        for study in storage.get_all_studies():
            storage.get_all_trials(study._study_id, deepcopy=False)
    return storage


@contextmanager
def read_whole(url: str) -> Iterator[None]:
    """Within it a storage is read; where it is damaged, that and the remedy is said.

    Raises:
        UserError: it is damaged.
    """
    try:
        yield
    except (UserError, ImportError, OSError):
        raise
    except Exception as error:  # there is nothing that Optuna would not make of a damaged file
        if isinstance(error.__cause__ or error, (OperationalError, sqlite3.OperationalError, *_failed_calls())):
            raise  # it is not to be had, or busy
        raise UserError(
            f"storage={hidden(url)} is damaged: {first_line(error)}\n  restore a copy of it, or start afresh with "
            "another storage=…, where complete runs in the study's folder are not trained again"
        ) from None


@contextmanager
def in_use(url: str, remedy: str = "\n  the same command continues the study") -> Iterator[None]:
    """Within it a study is worked on or read; where its storage fails meanwhile, that is said.

    Args:
        url: of the storage.
        remedy: what is said behind it.

    Raises:
        RunFailed: it cannot be reached, read or written.
    """
    try:
        yield
    except BrokenPipeError:  # the terminal's
        raise
    except _failures(url) as error:
        raise RunFailed(f"storage={hidden(url)}: {_said(error)}{remedy}") from None


def _failures(url: str) -> tuple[type[Exception], ...]:
    """What a storage raises where it fails."""
    kinds = (StorageInternalError, SQLAlchemyError, *_failed_calls())
    return (*kinds, OSError) if url.startswith("journal:") else kinds  # what else uses files says which it was


def _failed_calls() -> tuple[type[Exception], ...]:
    """What is raised where a proxy does not do what it is asked for."""
    grpc = sys.modules.get("grpc")  # of the extra `studies`, imported where there is a proxy
    return (grpc.RpcError,) if grpc else ()


def _said(error: BaseException) -> str:
    """What was wrong: Optuna hides it behind guesses, gRPC in a list of lines."""
    cause = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
    details = getattr(cause, "details", None)
    return details() if details else first_line(cause)


def hidden(url: str) -> str:
    """The URL as it may be shown: without its password. What is no URL is shown if it can hold none."""
    try:
        parsed = make_url(url)
    except (SQLAlchemyError, ValueError):
        return "…" if {":", "@"} & set(url) else url
    secret = [key for key in parsed.query if "password" in key.lower()]
    return parsed.difference_update_query(secret).render_as_string(hide_password=True)


def _open_sqlite(url: URL) -> BaseStorage:
    path = Path(url.database or "")
    path.parent.mkdir(parents=True, exist_ok=True)
    _check_pages(path)
    storage = _create(url, {"connect_args": {"timeout": SECONDS_FOR_A_LOCK}})
    # Optuna reads a trial's state, then writes it: without a lock from the start two workers can draw one trial.
    sqlalchemy.event.listen(storage.engine, "connect", _begin_no_transactions)
    sqlalchemy.event.listen(storage.engine, "begin", _begin_with_lock)
    storage.engine.dispose()  # connections that were opened before
    return storage


def _check_pages(path: Path) -> None:
    """Let SQLite look at all that it holds.

    Raises:
        sqlite3.DatabaseError: it is damaged.
    """
    with closing(sqlite3.connect(path, timeout=SECONDS_FOR_A_LOCK)) as connection:
        said = [row[0] for row in connection.execute("PRAGMA integrity_check")]
        if said != ["ok"] or connection.execute("PRAGMA foreign_key_check").fetchall():
            raise sqlite3.DatabaseError(said[0])


def _begin_no_transactions(connection: Any, record: object) -> None:
    connection.isolation_level = None  # sqlite3's way to leave them to us


def _begin_with_lock(connection: sqlalchemy.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _open_postgresql(url: URL) -> BaseStorage:
    # Connections that a server dropped are replaced.
    return _create(url.set(drivername=PSYCOPG), {"pool_pre_ping": True, "connect_args": CONNECTION})


def _has_tables(url: URL) -> bool:
    """Whether Optuna's are in a database: whoever only reads must not make them in one that was mistyped."""
    engine = sqlalchemy.create_engine(url.set(drivername=PSYCOPG), connect_args=CONNECTION)
    try:
        return sqlalchemy.inspect(engine).has_table("studies")
    finally:
        engine.dispose()


def _create(url: URL, engine: dict[str, Any]) -> RDBStorage:
    """The database with its tables; where another process creates them at the same moment, one of both fails."""
    text = url.render_as_string(hide_password=False)
    for _ in range(CREATIONS - 1):
        try:
            return RDBStorage(text, engine_kwargs=engine)
        except SQLAlchemyError:
            time.sleep(random.uniform(0.1, 0.5))
    return RDBStorage(text, engine_kwargs=engine)


def _open_journal(url: URL) -> BaseStorage:
    path = Path(url.database or "")
    path.parent.mkdir(parents=True, exist_ok=True)
    backend = JournalFileBackend(str(path))
    storage = JournalStorage(backend)  # reads what is whole
    _cut_torn_line(path)
    return storage


def _cut_torn_line(path: Path) -> None:
    """Drop a last line of which a full disk or a power cut left a part: what is added behind it would be lost.

    Raises:
        ValueError: there is no whole line before it, as in a file of another kind.
    """
    content = path.read_bytes()
    if content[-1:] in (b"", b"\n"):
        return
    if b"\n" not in content:
        raise ValueError("no entry is whole")
    lock = JournalFileSymlinkLock(str(path))
    lock.acquire()
    try:
        content = path.read_bytes()
        if not content.endswith(b"\n"):
            os.truncate(path, content.rfind(b"\n") + 1)
            print(f"warning: the last entry of {path} was written in part and is left out", file=sys.stderr)
    finally:
        lock.release()


def _open_proxy(url: URL) -> BaseStorage:
    proxy = GrpcStorageProxy(host=url.host or "localhost", port=url.port or 13000)
    proxy.wait_server_ready(SECONDS_TO_CONNECT)
    return proxy


_OPENERS: dict[str, Callable[[URL], BaseStorage]] = {
    "sqlite": _open_sqlite,
    "postgresql": _open_postgresql,
    "journal": _open_journal,
    "grpc": _open_proxy,
}
