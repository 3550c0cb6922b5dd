"""Runs as they would have been logged, made without training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from analysis.logs import Logs, assemble
from analysis.runs import LoggedRun
from benchmarks.pairs import PAIRS

SHA = {"vgg13": "aaaaaa" + "0" * 58, "wrn_40_2": "bbbbbb" + "0" * 58}


def logged(
    method: str = "kd",
    pair: str = "vgg13_vgg8",
    seed: int = 0,
    top1: float = 70.0,
    *,
    best: float | None = None,
    label: str = "",
    settings: dict[str, Any] | None = None,
    train: dict[str, Any] | None = None,
    teacher: str | None = None,
    taught_by: dict[str, Any] | None = None,
    attempt: int = 0,
    status: str | None = "complete",
    epochs: int = 2,
    id: str = "",
    created: float = 0.0,
    validation: float = 0.0,
    teacher_top1: float = 74.0,
) -> LoggedRun:
    """A run with the configuration, history and summary that `benchmarks.run` logs."""
    networks = dict(zip(("teacher", "student"), PAIRS[pair], strict=True))
    sha256 = teacher or SHA.get(networks["teacher"], "c" * 64)
    split = "val" if validation else "test"
    config = {
        "method": {"name": method, "label": label, "weights": {"ce": 1.0}, **(settings or {})},
        "label": label or method,
        "pair": {"name": pair, **networks},
        "data": {"name": "cifar100", "root": "/data", "cache": "/cache", "validation": validation},
        "seed": seed,
        "train": {
            "epochs": epochs,
            "batch_size": 64,
            "lr": 0.05,
            "precision": "fp32",
            "device": "cpu",
            "threads": 2,
        }
        | (train or {}),
        "loss": {"schedule": "fixed"},
        "teacher": None
        if method == "none"
        else {"sha256": sha256, "network": networks["teacher"], **(taught_by or {})},
        "attempt": attempt,
        "code": {"commit": "f" * 40, "sources": "123456abcdef"},
        "environment": {"device": "a processor"},
    }
    summary = {f"{split}/top1_last": top1, f"{split}/top1_best": top1 + 0.5 if best is None else best}
    summary |= {} if method == "none" else {"teacher/top1": teacher_top1}
    summary |= {} if status is None else {"status": status}
    history = {
        "epoch": np.arange(1.0, epochs + 1),
        f"{split}/top1": np.linspace(top1 - 1, top1, epochs),
        "train/loss/ce": np.linspace(2.0, 1.0, epochs),
    }
    identifier = id or f"{method}{label}-{pair}-{seed}-{attempt}".replace(" ", "")
    return LoggedRun(
        identifier, "here", f"runs/{identifier}", created=created, config=config, summary=summary, history=history
    )


def logs_of(runs: Sequence[LoggedRun]) -> Logs:
    return assemble(runs)


def grid(scores: dict[tuple[str, str], Sequence[float]], **kwargs: Any) -> list[LoggedRun]:
    """Runs of several seeds: top-1 by method and pair."""
    return [
        logged(method, pair, seed, top1, **kwargs)
        for (method, pair), values in scores.items()
        for seed, top1 in enumerate(values)
    ]
