"""How a command ends when it cannot do what was asked."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in what the user typed or supplied: a few clear lines, exit status 2."""

    student: str | None = None  # label of the one it is about, where the others of a cohort could go on


def first_line(error: BaseException) -> str:
    """What an error says first, with the first of the lines that this announces, or its kind if it says nothing."""
    first, *more = (str(error).strip() or type(error).__name__).splitlines()
    return f"{first} {more[0].strip()}" if more and first.endswith(":") else first


def require(ok: bool, message: str) -> None:
    """Raise `UserError(message)` unless `ok`."""
    if not ok:
        raise UserError(message)


class RunFailed(Exception):
    """A failure while running: a few clear lines, exit status 1."""

    student: str | None = None  # as above


class Interrupted(Exception):
    """A signal asked the program to stop; everything is saved. Exit status 128 + signal."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"interrupted by signal {signum}")
        self.signum = signum
