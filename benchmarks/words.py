"""Numbers in sentences. Depends on nothing."""

from __future__ import annotations

from typing import Any


def counted(number: Any, noun: str) -> str:
    """So many of something: "1 epoch", "2 epochs"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
