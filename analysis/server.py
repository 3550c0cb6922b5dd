"""Runs read from a W&B server through its public API.

The SDK repeats a request that fails, as with status 503, after growing waits. What was read is kept in the user's
cache under the time of the run's last heartbeat, so that reading a project again costs its list of runs.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import wandb

from analysis.runs import LoggedRun, columns
from benchmarks import metrics
from benchmarks.errors import RunFailed, UserError, first_line
from benchmarks.files import user_cache, write_text
from benchmarks.hashing import short_hash

TIMEOUT = 60  # seconds in which the SDK repeats a request
RUNS_A_PAGE = 50
ROWS_A_PAGE = 1000
THREADS = 8  # runs read at a time
NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}  # which the server sends as text


def read_project(path: str) -> tuple[list[LoggedRun], list[str]]:
    """All runs of a project, and what was left out.

    Args:
        path: entity/project.

    Raises:
        UserError: no login, or no such project.
        RunFailed: the server does not answer; what was read so far is in the cache.
    """
    api = _login(path)
    try:
        listed = list(api.runs(path, per_page=RUNS_A_PAGE))
    except ValueError as error:
        raise UserError(f"source={path}: {first_line(error)}") from None
    except Exception as error:  # the SDK has no family of errors for what may go wrong on the way
        raise RunFailed(f"source={path}: {first_line(error)}") from None
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            runs = list(pool.map(_read, listed))
        except Exception as error:
            pool.shutdown(cancel_futures=True)
            raise RunFailed(f"source={path}: {first_line(error)}\n  the same command goes on from here") from None
    for run in runs:
        run.source = path
    notes = [f"{run.folder}: {run.note}" for run in runs if run.note]
    return sorted(runs, key=lambda run: (run.created, run.id)), notes


def _login(path: str) -> wandb.Api:
    try:
        return wandb.Api(overrides={"entity": path.split("/")[0]}, timeout=TIMEOUT)
    except wandb.errors.UsageError as error:
        raise UserError(f"source={path}: {first_line(error)}") from None
    except wandb.errors.Error as error:
        raise RunFailed(f"source={path}: {first_line(error)}") from None


def _read(run: Any) -> LoggedRun:
    """A run, from the cache if it has not changed since."""
    path = _cache_path(run)
    updated = [run.heartbeatAt, run.state, run.historyLineCount]
    content = _cached(path)
    if content.get("updated") != updated:
        rows = list(run.scan_history(page_size=ROWS_A_PAGE))
        content = {"updated": updated, "config": run.config, "summary": run.summary_metrics, "rows": rows}
        write_text(path, json.dumps(content))
    return _assembled(run, content)


def _cache_path(run: Any) -> Path:
    """Where a run is kept: its page's address is what names it among all servers."""
    return user_cache() / "wandb" / f"{short_hash(run.url, 20)}.json"


def _cached(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there, or damaged: it is read again
        return {}
    return content if isinstance(content, dict) else {}


def _assembled(run: Any, content: Mapping[str, Any]) -> LoggedRun:
    by_epoch: dict[int, dict[str, Any]] = {}
    lost = 0
    for row in content["rows"]:
        epoch = row.get(metrics.EPOCH)
        if isinstance(epoch, int | float) and epoch == int(epoch):  # from Parquet, the server sends 1.0
            by_epoch.setdefault(int(epoch), {}).update(_entries(_own(row)))
        else:
            lost += 1
    return LoggedRun(
        run.id,
        folder=run.url,
        name=run.name or "",
        group=run.group or "",
        created=_seconds(run.created_at),
        config=_own(content["config"]),
        summary=_own(content["summary"]),
        history=columns(by_epoch.values()),
        note=f"rows without an epoch left out: {lost}" if lost else "",
    )


def _seconds(time: str) -> float:
    """Since 1970; a time without zone is UTC."""
    moment = datetime.fromisoformat(time)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _own(content: Mapping[str, Any]) -> dict[str, Any]:
    """What the user logged, without W&B's own entries."""
    return {key: _numbers(value) for key, value in content.items() if not key.startswith("_")}


def _entries(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested entries by their path, with dots."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _entries(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _numbers(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _numbers(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_numbers(each) for each in value]
    return NUMBERS.get(value, value) if isinstance(value, str) else value
