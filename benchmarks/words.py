"""Numbers in sentences, and words in command lines. Depends on nothing."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any


def counted(number: Any, noun: str) -> str:
    """So many of something: "1 epoch", "2 epochs"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def signed(difference: float, digits: int = 2) -> str:
    """A difference with its sign, a true minus: "+1.20", "−0.50", "0.00"."""
    difference = round(difference, digits) + 0.0  # which makes a negative zero positive
    return f"{difference:{'+' if difference else ''}.{digits}f}".replace("-", "−")


def command_line(words: Iterable[str]) -> str:
    """Words for a POSIX shell; in double quotes where they hold single ones, which `shlex` makes hard to read."""
    return " ".join(
        f'"{word}"' if "'" in word and not set(word) & set('"$`\\!') else shlex.quote(word) for word in words
    )


def words_of(line: Any) -> list[str]:
    """The words of a command line; none of what is not one, as other programs may have logged."""
    try:
        return shlex.split(line) if isinstance(line, str) else []
    except ValueError:  # an open quote
        return []
