"""What a cohort leaves behind: W&B runs and result files."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import torch

from benchmarks import data, metrics
from benchmarks.artifacts import Artifacts
from benchmarks.config import Mode, RunConfig, TrackingConfig, plain
from benchmarks.costs import cost, cost_of_prediction
from benchmarks.errors import Interrupted, RunFailed
from benchmarks.files import RESULT, write_record
from benchmarks.identity import environment
from benchmarks.overrides import as_overrides
from benchmarks.repeat import beyond_usual, repeat
from benchmarks.results import COMPLETE, FAILED, METHOD, STOPPED, STUDENT, Job, summarise
from benchmarks.teachers import Teacher
from benchmarks.tensors import write_tensors
from benchmarks.tracking import NoServerError, Tracker, leave_server
from benchmarks.training.build import specs_of
from benchmarks.training.cohort import Observer, Seat
from benchmarks.training.member import Member
from benchmarks.training.stage import Row


class Recorder(Observer):
    """Logs each student's epochs and writes its result. A context: what it leaves unfinished ends as such.

    Args:
        run: the command's configuration.
        jobs, members: the students to be trained.
        teacher, teacher_top1: the teacher, and what it was measured to reach; None where none is needed.
        artifacts: writes each student's arrays; None: they are not wanted.
    """

    def __init__(
        self,
        run: RunConfig,
        jobs: Sequence[Job],
        members: Sequence[Member],
        teacher: Teacher | None,
        teacher_top1: float | None,
        artifacts: Artifacts | None,
    ) -> None:
        self.run, self.jobs = run, {job.config.label: job for job in jobs}
        self.members = {member.name: member for member in members}
        self.teacher, self.teacher_top1 = teacher, teacher_top1
        self.artifacts = artifacts
        self.environment = environment(torch.device(run.train.device.value))
        self._info = data.INFO[run.data.name]
        self.trackers: dict[str, Tracker] = {}
        self.notices: list[str] = []

    def _content(self, job: Job) -> dict[str, Any]:
        """W&B's `config`: the resolved configuration and all that it ran with."""
        teacher = self.teacher if job.config.has_teacher else None
        return plain(job.config) | {
            "label": job.config.label,
            "id": job.folder.id,
            "attempt": job.folder.attempt,
            "teacher": teacher and self._teacher_content(teacher),
            "unusual": as_overrides(beyond_usual(job.config, specs_of(self.run.pair, self._info))),
            "command": repeat(job.config, self.run.teacher if teacher else None, job.folder.attempt),
            "costs": self._costs(job),
            "cohort": list(self.jobs),  # whose time and memory the history shows
            "tracking": plain(self.run.tracking),
            "output": self.run.output,
            "code": job.code | ({"before": job.code_before} if job.code_before else {}),
            "environment": self.environment,
        }

    def _costs(self, job: Job) -> dict[str, Any]:
        """Parameters and multiply–accumulates of the two networks, the student's with what stays in it."""
        pair = self.run.pair
        student, teacher = cost(pair.student, self._info), cost(pair.teacher, self._info)
        member = self.members[job.config.label]
        if member.method.predicts:
            student = cost_of_prediction(member.classifier, self._info)
        return {"student": plain(student), "teacher": plain(teacher)}

    def _teacher_content(self, teacher: Teacher) -> dict[str, Any]:
        return plain(self.run.teacher) | {
            "network": teacher.network,
            "sha256": teacher.sha256,
            "source": teacher.source,
            "top1": self.teacher_top1,
        }

    def __enter__(self) -> Self:
        try:
            self._begin()
        except BaseException:
            self._end(FAILED)
            raise
        return self

    def _begin(self) -> None:
        """Begin the W&B runs, all online or none."""
        tracking = self.run.tracking
        try:
            self._track(tracking)
        except NoServerError as error:  # no server is worth a training
            print(f"warning: logged offline, for `wandb sync`: {error}", file=sys.stderr)
            leave_server()
            self._track(dataclasses.replace(tracking, mode=Mode.offline))

    def _track(self, config: TrackingConfig) -> None:
        for label, job in self.jobs.items():
            self.trackers[label] = Tracker(
                config,
                job.folder.path,
                job.folder.id,
                name=f"{label} {self.run.pair.name} seed {self.run.seed}",
                group=self.run.pair.name,
                content=self._content(job),
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end("interrupted" if isinstance(error, Interrupted | KeyboardInterrupt) else FAILED)

    def _end(self, status: str) -> None:
        for tracker in self.trackers.values():
            with contextlib.suppress(RunFailed):  # what failed before is the reason
                tracker.finish(status, {})

    def on_start(self, members: Sequence[Member], step: int, num_steps: int) -> None:
        # W&B cannot continue an offline run: what it knew before is logged again, and the later row counts.
        for member in members:
            for row in member.history:
                self.trackers[member.name].log(row)

    def on_epoch(self, member: Member, row: Row) -> None:
        self.trackers[member.name].log(row)

    def on_notice(self, notice: str) -> None:
        self.notices.append(notice)

    def on_failure(self, member: Member, failure: str) -> None:
        job = self.jobs[member.name]
        job.failure = failure
        job.folder.remember_failure(failure)
        self.trackers[member.name].finish(FAILED, {"failure": failure})

    def on_stop(self, member: Member) -> None:
        self.trackers[member.name].finish(
            STOPPED, summarise(member.history, self.run.data.split, None, member.pretraining_history)
        )

    def finish(self, job: Job, seat: Seat) -> None:
        """Write the result of a student that trained to the end."""
        tracker, member = self.trackers[job.config.label], seat.member
        history, pretraining = member.history, member.pretraining_history
        teacher_top1 = self.teacher_top1 if job.config.has_teacher else None
        summary = summarise(history, self.run.data.split, teacher_top1, pretraining)
        written = {}
        if self.artifacts:
            written[metrics.ARTIFACTS] = str(self.artifacts.write(job.folder.path, member).resolve())
        where = tracker.finish(COMPLETE, summary | written)
        write_tensors(job.folder.path / STUDENT, member.network.state_dict())
        if member.method.predicts:
            state = member.method.state_dict()
            del state["_extra_state"]  # random numbers of the training
            write_tensors(job.folder.path / METHOD, state)
        job.result = {
            "status": COMPLETE,
            "summary": summary,
            "wandb": where,
            "config": self._content(job),
            "history": history,
        }
        if pretraining:
            job.result["pretraining"] = pretraining
        if self.notices:
            job.result["notices"] = self.notices
        write_record(job.folder.path / RESULT, job.result)
        seat.checkpoints.delete()
