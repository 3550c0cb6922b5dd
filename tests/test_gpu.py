"""What only a CUDA device can show; the same on the CPU is in test_run.py."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch

import methods

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]
GPU = ("train.device=cuda", "train.deterministic=true", "train.precision=bf16")


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
