"""Numbers in sentences. Depends on nothing."""

from __future__ import annotations

from typing import Any


def counted(number: Any, noun: str) -> str:
    """So many of something: "1 epoch", "2 epochs"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def signed(difference: float, digits: int = 2) -> str:
    """A difference with its sign, a true minus: "+1.20", "−0.50", "0.00"."""
    difference = round(difference, digits) + 0.0  # which makes a negative zero positive
    return f"{difference:{'+' if difference else ''}.{digits}f}".replace("-", "−")
