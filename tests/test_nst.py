"""NST's discrepancy against loops over pairs of channels, on both ways to compute it."""

import numpy as np
import pytest
import torch
from helpers import block_mean, draw_maps, make, student_features, teacher_features, terms_of
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from methods.nst import nst_loss


def reference(student, teacher):
    side = min(student.shape[-1], teacher.shape[-1])

    def kernel_mean(xs, ys):
        return np.mean([(x @ y) ** 2 for x in xs for y in ys])

    total = 0.0
    for s, t in zip(block_mean(student, side), block_mean(teacher, side), strict=True):
        xs, ys = ([each.ravel() / np.sqrt((each**2).sum()) for each in maps] for maps in (s, t))
        total += kernel_mean(xs, xs) + kernel_mean(ys, ys) - 2 * kernel_mean(xs, ys)
    return total / len(student)


@pytest.mark.parametrize("channels", [(3, 5), (17, 20), (17, 3)], ids=["few", "many", "mixed"])
@pytest.mark.parametrize("sides", [(4, 4), (8, 4), (4, 8)])
def test_is_the_discrepancy_of_the_channels_maps(channels, sides):
    student, teacher = draw_maps(0, channels[0], sides[0]), draw_maps(1, channels[1], sides[1])
    assert nst_loss(student, teacher).item() == pytest.approx(reference(student.numpy(), teacher.numpy()), rel=1e-9)


@given(seed=st.integers(0, 50), order=st.permutations(range(6)))
def test_ignores_the_order_sign_scale_and_repetition_of_channels(seed, order):
    student, teacher = draw_maps(seed, 6, 2), draw_maps(seed + 99, 6, 2)
    scale = torch.tensor([-1.0, 2.0, 0.5, -3.0, 1.0, 7.0], dtype=torch.float64)[:, None, None]
    changed = (scale * student)[:, order].repeat(1, 2, 1, 1)
    torch.testing.assert_close(nst_loss(changed, teacher), nst_loss(student, teacher))
    assert nst_loss(changed, student).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("channels", [3, 20])
def test_gradient_is_finite_for_a_dead_channel(channels):
    student = draw_maps(0, channels, 4)
    student[:, 1] = 0
    student.requires_grad_()
    nst_loss(student, draw_maps(1, channels, 4)).backward()
    assert student.grad.isfinite().all()
    assert student.grad.any()


def test_never_materialises_the_kernel_over_positions():
    """Nothing as large as B·C·C'·H·W is made on the way."""

    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                self.size = max(self.size, out.numel())
            return out

    for channels, side in ((32, 8), (64, 4)):
        with Largest() as largest:
            nst_loss(draw_maps(0, channels, side), draw_maps(1, channels, side))
        assert largest.size <= 3 * max(channels**2, channels * side**2)


def test_sums_the_stages_without_the_stem():
    student, teacher = student_features(), teacher_features()
    expected = sum(reference(student.stages[k].numpy(), teacher.stages[k].numpy()) for k in (1, 2, 3))
    term = terms_of(make("nst", student, teacher), student, teacher)["nst"]
    assert term.item() == pytest.approx(expected, rel=1e-8)
