"""Weights & Biases: one run for each student, offline unless asked otherwise."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from benchmarks import metrics
from benchmarks.config import Mode, TrackingConfig
from benchmarks.errors import RunFailed, UserError, first_line
from benchmarks.results import COMPLETE, STOPPED

# How long a finished run waits for a server that has stopped answering.
UPLOAD_PATIENCE_S = 60


def check_tracking(config: TrackingConfig) -> None:
    """See to it that W&B will take runs, before anything is spent.

    Raises:
        UserError: it refuses a setting of the environment, or there is no login for online runs.
    """
    if config.mode == Mode.disabled:
        return
    import wandb
    from pydantic import ValidationError

    try:
        wandb.Settings().update_from_env_vars(dict(os.environ))
    except ValidationError as error:
        first = error.errors()[0]
        variable = f"WANDB_{str(first['loc'][0]).upper()}={first['input']}"
        raise UserError(f"{variable}: {first['msg']} (a variable of the environment, which W&B reads)") from None
    if config.mode != Mode.online:
        return
    try:
        wandb.login(verify=False)
    except wandb.errors.Error as error:
        raise _no_login(error) from None


def _no_login(error: Exception) -> UserError:
    advice = "log in with `wandb login`, or use tracking.mode=offline"
    return UserError(f"tracking.mode=online: {first_line(error)}\n  {advice}")


def _unwritten(error: OSError, folder: Path | str) -> RunFailed:
    return RunFailed(f"writing W&B's files in {folder}: {error.strerror}")


def _leave_foreign_service() -> None:
    """Have a helper process of W&B's of one's own: a parent's, which its environment hands on, takes a run that a
    killed child began for one that is still in use."""
    if f"-{os.getpid()}-" not in os.environ.get("WANDB_SERVICE", ""):
        os.environ.pop("WANDB_SERVICE", None)


def _settings() -> Any:
    """W&B's own: nothing that could carry a secret is collected, no arguments, no git remote, no console."""
    import wandb

    return wandb.Settings(
        silent=True,
        console="off",
        disable_git=True,
        x_disable_meta=True,
        x_disable_machine_info=True,
        finish_timeout=UPLOAD_PATIENCE_S,
        finish_timeout_raises=True,
    )


class NoServerError(Exception):
    """W&B's server does not answer."""


def leave_server() -> None:
    """End all W&B runs of this process, so that the same ones may begin anew: one that failed to keeps its id."""
    import wandb

    wandb.teardown()


class Tracker:
    """One student's W&B run; does nothing with mode=disabled.

    Args:
        config: project, entity, group and mode.
        folder: the run's folder; W&B's files go to its `wandb/`.
        run_id: W&B's id too.
        name, group: for W&B's pages.
        content: what goes into W&B's `config`.

    Raises:
        UserError: W&B refuses, as for a missing login.
        NoServerError: its server does not answer.
        RunFailed: its files cannot be written.
    """

    def __init__(
        self,
        config: TrackingConfig,
        folder: Path,
        run_id: str,
        name: str,
        group: str,
        content: dict[str, Any],
    ) -> None:
        self._run: Any = None
        self._online = config.mode == Mode.online
        if config.mode == Mode.disabled:
            return
        _leave_foreign_service()
        import wandb

        settings = _settings()
        try:
            self._run = wandb.init(
                project=config.project,
                entity=config.entity,
                group=config.group or group,
                name=name,
                id=run_id,
                dir=folder,
                config=content,
                reinit="create_new",
                settings=settings,
                mode="online" if self._online else "offline",
                resume="allow" if self._online else None,
            )
        except wandb.errors.AuthenticationError as error:
            raise _no_login(error) from None
        except wandb.errors.CommError as error:
            raise NoServerError(first_line(error)) from None
        except wandb.errors.Error as error:
            raise UserError(f"tracking.mode={config.mode}: {first_line(error)}") from None
        except OSError as error:
            raise _unwritten(error, folder) from None
        self._run.define_metric(metrics.EPOCH)
        self._run.define_metric("*", step_metric=metrics.EPOCH)

    def log(self, row: dict[str, float]) -> None:
        """Log one epoch's row."""
        if self._run is not None:
            self._run.log(row)

    def finish(self, status: str, summary: dict[str, Any]) -> str | None:
        """Write the summary and end the run.

        Returns:
            Its page where it is online; the folder of its files where it is offline or the server has stopped
            answering; None with mode=disabled or when it had been finished before.

        Raises:
            RunFailed: its files cannot be written.
        """
        if self._run is None:
            return None
        run, self._run = self._run, None
        run.summary.update(summary | {metrics.STATUS: status})
        folder = str(run.settings.sync_dir)
        try:
            run.finish(exit_code=0 if status in (COMPLETE, STOPPED) else 1)  # W&B takes others for crashed
        except TimeoutError:
            upload = f"wandb sync --no-skip-online {folder}"
            print(f"warning: W&B's server has stopped answering; upload the run by `{upload}`", file=sys.stderr)
            return folder
        except OSError as error:
            raise _unwritten(error, folder) from None
        return run.url if self._online else folder
