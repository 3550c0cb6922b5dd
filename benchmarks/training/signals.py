"""Interruptions that let the current step finish."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, ClassVar, Self

from benchmarks.errors import Interrupted


class Interruption:
    """Within it SIGINT and SIGTERM are noted in `signum` instead of ending the program; a second one ends it.

    What was noted around it counts within it, too: nobody begins a training that was to end.
    """

    _around: ClassVar[list[Interruption]] = []  # those that were entered, the innermost last

    def __init__(self) -> None:
        self.signum: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self  # only the main thread hears signals
        for signum in (signal.SIGINT, signal.SIGTERM):
            self._before[signum] = signal.signal(signum, self._note)
        if self._around and self.signum is None:  # behind the handlers: no signal falls between
            self.signum = self._around[-1].signum
        self._around.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self in self._around:
            self._around.remove(self)
        self._restore()

    @classmethod
    def heed(cls) -> None:
        """End what is going on if a signal was noted, where nothing has to be saved for that.

        Raises:
            Interrupted: one was.
        """
        if cls._around and (signum := cls._around[-1].signum) is not None:
            raise Interrupted(signum)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        self._restore()

    def _restore(self) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
