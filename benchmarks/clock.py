"""Time: how long something takes, in words, and how much is left. Depends on nothing."""

from __future__ import annotations

import time


def milliseconds(seconds: float) -> str:
    """For people, of a CPU's step or a GPU's."""
    value = 1000 * seconds
    return f"{value:.2f} ms" if value < 10 else f"{value:.0f} ms"


def duration(seconds: float) -> str:
    """A time in the unit that suits it, as 90 s, 12 min or 1.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds >= 10 * 3600 else f"{seconds / 3600:.1f} h"


class Clock:
    """Time left, from the steps done since it started; what each epoch spends on evaluation counts in."""

    def __init__(self, done: int, total: int) -> None:
        self.started, self.first, self.done, self.total = time.monotonic(), done, done, total

    def advance(self, done: int) -> None:
        self.done = done

    @property
    def passed(self) -> float:
        """Seconds since it started."""
        return time.monotonic() - self.started

    @property
    def left(self) -> float | None:
        """Seconds that the other steps will take; None before the first step."""
        steps = self.done - self.first
        return self.passed / steps * (self.total - self.done) if steps else None

    def images_per_s(self, batch_size: int) -> float:
        elapsed = self.passed
        return (self.done - self.first) * batch_size / elapsed if elapsed else 0.0
