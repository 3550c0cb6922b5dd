"""What only a CUDA device can show; the same on the CPU is in test_run.py and test_launcher.py."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch
from commands import InjectedConfig, injected

import methods
from benchmarks.training import step
from benchmarks.training.step import teacher_features
from methods import Method

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]
# Enough steps that most are replayed.
GPU = ("train.device=cuda", "train.deterministic=true", "train.precision=bf16", "train.max_steps=8")


@pytest.fixture(autouse=True)
def nondeterministic_again():
    yield
    torch.use_deterministic_algorithms(False)


def weights(folder, label):
    (path,) = folder.glob(f"*/{label}/*/student.safetensors")
    return safetensors.torch.load_file(path)


@pytest.mark.parametrize("method", methods.available())
def test_a_student_is_bit_identical_alone_and_in_a_cohort(distil, tmp_path, method):
    others = "none" if method != "none" else "kd"
    assert distil(*GPU, f"method={method}", f"output={tmp_path / 'alone'}") == 0
    assert distil(*GPU, f"methods=[{others},{method}]", f"output={tmp_path / 'cohort'}") == 0
    alone, cohort = weights(tmp_path / "alone", method), weights(tmp_path / "cohort", method)
    assert all(torch.equal(alone[name], cohort[name]) for name in alone)


@pytest.mark.parametrize("method", methods.available())
def test_replayed_steps_are_launched_ones_to_the_bit(distil, tmp_path, method, capsys):
    assert distil(*GPU, f"method={method}", f"output={tmp_path / 'replayed'}") == 0
    assert "launched one by one" not in capsys.readouterr().out
    assert distil(*GPU, f"method={method}", "train.graph=false", f"output={tmp_path / 'launched'}") == 0
    replayed, launched = weights(tmp_path / "replayed", method), weights(tmp_path / "launched", method)
    assert all(torch.equal(replayed[name], launched[name]) for name in launched)


class Reading(Method[InjectedConfig]):
    """Reads a value back, as many implementations do."""

    needs = frozenset({"logits"})

    def forward(self, student, teacher, target, index):
        return {"injected": student.logits.square().mean() * (1 + teacher.logits[0, 0].item() ** 2)}


def test_a_step_that_needs_the_host_is_launched_and_said_where(distil, tmp_path, capsys):
    with injected(Reading):
        assert distil(*GPU, "methods=[injected,kd]", f"output={tmp_path / 'read'}") == 0
        assert "launched one by one, not replayed as a CUDA graph: aten::" in " ".join(
            capsys.readouterr().out.split()
        )
    assert distil(*GPU, "method=kd", f"output={tmp_path / 'replayed'}") == 0
    read, replayed = weights(tmp_path / "read", "kd"), weights(tmp_path / "replayed", "kd")
    assert all(torch.equal(read[name], replayed[name]) for name in read)


def test_a_step_that_fails_while_it_is_recorded_is_launched(distil, tmp_path, monkeypatch, capsys):
    """What no check foresees: the device refuses, and goes on as if nothing had been."""

    def refusing(teacher, needs, batch, precision, table=None):
        if torch.cuda.is_current_stream_capturing():
            torch.cuda.synchronize()
        return teacher_features(teacher, needs, batch, precision, table)

    monkeypatch.setattr(step, "teacher_features", refusing)
    assert distil(*GPU, "method=crd", f"output={tmp_path / 'refused'}") == 0
    assert "launched one by one" in capsys.readouterr().out
    monkeypatch.undo()
    assert distil(*GPU, "method=crd", f"output={tmp_path / 'replayed'}") == 0
    refused, replayed = weights(tmp_path / "refused", "crd"), weights(tmp_path / "replayed", "crd")
    assert all(torch.equal(refused[name], replayed[name]) for name in replayed)
