"""A run's folder: its state while it trains and its result when it is done."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from benchmarks import metrics
from benchmarks.config import RunConfig, TrainConfig
from benchmarks.errors import UserError
from benchmarks.files import FAILURE, LOCK, RESULT, read_record, record_at, write_record
from benchmarks.identity import code_version, method_version, network_version, run_id, slug
from benchmarks.variants import StudentConfig
from methods import ALONE, configure
from methods.schedules import LossConfig

# A run's status at its end
COMPLETE, STOPPED, FAILED = "complete", "stopped", "failed"
# The student's weights in a run's folder, and those of a method that takes part in its prediction.
STUDENT, METHOD = "student.safetensors", "method.safetensors"
# Hashes of a run's own files, and what these are called.
OWN_FILES = {"method_sources": "method's own file", "network_sources": "network's or data set's own file"}
# What a look at a run's state may hold its lock for.
BRIEFLY = 0.2  # seconds


class Taken(UserError):
    """Another process is training the run."""


def locked(folder: Path, wait: bool = False) -> AbstractContextManager[Any]:
    """The folder of a run or teacher, held while it trains, so that no second process does.

    Args:
        folder: made if it is not there.
        wait: for the other process to end.

    Raises:
        Taken: another process trains it.
        UserError: the folder cannot be written.
    """
    lock = FileLock(folder / LOCK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return lock.acquire(timeout=-1 if wait else BRIEFLY)
    except Timeout:
        raise Taken(f"another process is training {folder}") from None
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}") from None


@dataclass
class Job:
    """One student of a command, from its configuration to its result.

    Attributes:
        config: resolved.
        folder: its run's.
        result: content of `result.json`; None while it is not complete.
        failure: why it left its cohort.
        taken: whether it is left to another process.
        code_before: other versions of the code that trained it before.
    """

    config: StudentConfig
    folder: RunFolder
    result: dict[str, Any] | None
    failure: str | None = None
    taken: bool = False
    code_before: list[dict[str, str]] = field(default_factory=list)

    @property
    def code(self) -> dict[str, str]:
        """The code that trains it today; that of its method, and of its network and data set, told apart."""
        own = network_version(self.config.pair.student, self.config.data.name)
        return code_version() | method_version(self.config.method.name) | own

    @property
    def of_other_code(self) -> bool:
        """Whether its result was computed by other sources than today's."""
        return self._differs("sources") or bool(self.other_files)

    @property
    def other_files(self) -> list[str]:
        """Which of the run's own files were other ones, as words; none where that was not noted."""
        return [words for key, words in OWN_FILES.items() if self._differs(key)]

    def _differs(self, key: str) -> bool:
        noted = None if self.result is None else self.result["config"]["code"].get(key)
        return noted is not None and noted != self.code.get(key)


@dataclass(frozen=True)
class RunFolder:
    """`output/<pair>/<label>/<id>/` of one student's run."""

    path: Path
    id: str
    attempt: int

    def result(self) -> dict[str, Any] | None:
        """The content of `result.json`, None while the run is not complete.

        Raises:
            UserError: the file is damaged, or closed to this user.
        """
        path = self.path / RESULT
        try:
            if not path.is_file():
                return None
            result = read_record(path)
            if result["status"] != COMPLETE or not isinstance(result["summary"], dict):
                raise ValueError("not a complete run's result")
        except (ValueError, KeyError) as error:
            raise UserError(f"{path} is damaged ({error}); delete {self.path} to run again") from None
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from None
        return result

    def failure(self) -> str | None:
        """Why the run failed under today's code; None if it did not."""
        noted = record_at(self.path / FAILURE)  # nothing where it did not, or nobody can tell
        return str(noted["failure"]) if noted.get("sources") == code_version()["sources"] else None

    def remember_failure(self, failure: str) -> None:
        """Note why the run failed, and under which code."""
        write_record(self.path / FAILURE, {"failure": failure, "sources": code_version()["sources"]})

    def forget_failure(self) -> None:
        """Let the run be tried again."""
        (self.path / FAILURE).unlink(missing_ok=True)

    def remember_code(self, now: dict[str, str]) -> list[dict[str, str]]:
        """Note the code that begins or continues the run; the other versions that trained it before."""
        path = self.path / "code.json"
        versions = record_at(path).get("versions", [])  # none of a new run, or if its beginning is not known
        others = [version for version in versions if version["sources"] != now["sources"]]
        if len(others) == len(versions):
            write_record(path, {"versions": [*versions, now]})
        return others


def find_job(run: RunConfig, student: StudentConfig, teacher_sha256: str | None) -> Job:
    """A student with its folder.

    Args:
        run: the command's configuration.
        student: resolved.
        teacher_sha256: of the teacher's weights; None while there is none.
    """
    sha256 = teacher_sha256 if student.has_teacher else None
    return _choose(Path(run.output), student, sha256, rerun=run.rerun)


def _choose(output: Path, config: StudentConfig, teacher_sha256: str | None, rerun: bool) -> Job:
    """A student with the attempt that counts.

    With `rerun` that is the first that is not complete; else the first, unless a complete one was computed by
    today's code, or by today's version of the run's own files, and the first was not.
    """
    attempts = list(_attempts(output, config, teacher_sha256))
    if rerun:
        return attempts[-1]
    return min(
        (job for job in attempts if job.result or job is attempts[0]),
        key=lambda job: (bool(job.other_files), job.of_other_code),
    )


def _attempts(output: Path, config: StudentConfig, teacher_sha256: str | None) -> Iterator[Job]:
    """A student in each of its run's attempts, up to the first that is not complete."""
    parent = output / slug(config.pair.name) / slug(config.label)
    for attempt in itertools.count():
        identifier = run_id(config, teacher_sha256, attempt)
        folder = RunFolder(parent / identifier, identifier, attempt)
        job = Job(config, folder, folder.result())
        yield job
        if job.result is None:
            return


def summarise(
    history: list[dict[str, float]],
    split: str,
    teacher_top1: float | None,
    pretraining: list[dict[str, float]],
) -> dict[str, float]:
    """The summary of a finished training: last epoch, best epoch as a diagnostic, the teacher, what came before."""
    top1 = [row[metrics.evaluation(split, "top1")] for row in history]
    summary = {
        metrics.evaluation(split, metrics.TOP1_LAST): top1[-1],
        metrics.evaluation(split, metrics.TOP1_BEST): max(top1),
    }
    if teacher_top1 is not None:
        summary[metrics.TEACHER_TOP1] = teacher_top1
    if pretraining:
        summary[metrics.PRETRAINING_EPOCHS] = len(pretraining)
        summary[metrics.PRETRAINING_SECONDS] = sum(row[metrics.EPOCH_SECONDS] for row in pretraining)
    return summary


def student_alone(output: Path, config: StudentConfig) -> float | None:
    """Top-1 of the same student without distillation, under the same protocol and seed, if it was run."""
    none = configure(ALONE)
    # What only distillation has is left out.
    train = dataclasses.replace(config.train, optimizer=TrainConfig.optimizer, delta=TrainConfig.delta)
    alone = dataclasses.replace(config, method=none, train=train, loss=LossConfig().resolve(none))
    top1 = metrics.evaluation(config.data.split, metrics.TOP1_LAST)
    try:
        result = _choose(output, alone, None, rerun=False).result
        return None if result is None else result["summary"][top1]
    except (UserError, KeyError):  # a damaged result is reported where it is needed
        return None
