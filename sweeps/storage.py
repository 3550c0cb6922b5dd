"""Where studies are kept: SQLite, PostgreSQL, a journal file, or Optuna's gRPC proxy in front of a database."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy
import sqlalchemy.event
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, GrpcStorageProxy, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from benchmarks.errors import UserError, first_line, require

FORMS = "sqlite:///FILE, postgresql://USER@HOST/DATABASE, journal:///FILE, grpc://HOST:PORT"
SECONDS_FOR_A_LOCK = 60  # that a writer waits for another on SQLite
CREATIONS = 3  # attempts, where several processes create the tables at once
SECONDS_TO_CONNECT = 10


def open_storage(url: str, create: bool = True) -> BaseStorage:
    """The storage of a URL.

    Args:
        url: as typed.
        create: its file where there is none.

    Raises:
        UserError: it cannot be opened. No message shows the URL's password.
    """
    try:
        parsed = make_url(url)
    except SQLAlchemyError:
        raise UserError(f"storage={hidden(url)} is no URL: {FORMS}") from None
    opener = _OPENERS.get(parsed.get_backend_name())
    if opener is None:
        raise UserError(f"storage={hidden(url)}: {parsed.get_backend_name()} is none of {FORMS}")
    if not create and opener in (_open_sqlite, _open_journal):
        require(Path(parsed.database or "").is_file(), f"storage={hidden(url)}: there is no such file")
    try:
        return opener(parsed)
    except ImportError as error:
        remedy = "pip install 'kd-benchmarks[studies]'"
        raise UserError(f"storage={hidden(url)}: {first_line(error)}; {remedy}") from None
    except (SQLAlchemyError, StorageInternalError, OSError, ValueError) as error:
        raise UserError(f"storage={hidden(url)}: {first_line(error)}") from None


def hidden(url: str) -> str:
    """The URL as it may be shown: without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except SQLAlchemyError:
        return url.split("://", 1)[0] + "://…"


def _open_sqlite(url: URL) -> BaseStorage:
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    storage = _create(url, {"connect_args": {"timeout": SECONDS_FOR_A_LOCK}})
    # Optuna reads a trial's state, then writes it: without a lock from the start two workers can draw one trial.
    sqlalchemy.event.listen(storage.engine, "connect", _begin_no_transactions)
    sqlalchemy.event.listen(storage.engine, "begin", _begin_with_lock)
    storage.engine.dispose()  # connections that were opened before
    return storage


def _begin_no_transactions(connection: Any, record: object) -> None:
    connection.isolation_level = None  # sqlite3's way to leave them to us


def _begin_with_lock(connection: sqlalchemy.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _open_postgresql(url: URL) -> BaseStorage:
    # psycopg 3 is the driver that the project installs; connections that a server dropped are replaced.
    connection = {"connect_timeout": SECONDS_TO_CONNECT}
    return _create(url.set(drivername="postgresql+psycopg"), {"pool_pre_ping": True, "connect_args": connection})


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
    return JournalStorage(JournalFileBackend(str(path)))


def _open_proxy(url: URL) -> BaseStorage:
    return GrpcStorageProxy(host=url.host or "localhost", port=url.port or 13000)


_OPENERS: dict[str, Callable[[URL], BaseStorage]] = {
    "sqlite": _open_sqlite,
    "postgresql": _open_postgresql,
    "journal": _open_journal,
    "grpc": _open_proxy,
}
