"""VID's likelihood against its formula, position by position."""

import numpy as np
import pytest
import torch
from helpers import block_mean, draw_maps, make, randomise, student_features, teacher_features, terms_of

from methods.vid import gaussian_loss

EPS = 1e-5  # RepDistiller's


def softplus(x):
    return np.logaddexp(0, x)


def regressed(x, layers):
    """1 × 1 convolutions with ReLUs between, `[B, C, H, W]`."""
    for k, layer in enumerate(layers):
        x = np.einsum("bchw,dc->bdhw", np.maximum(x, 0) if k else x, layer.weight.detach().numpy()[:, :, 0, 0])
    return x


def reference(likelihood, student, teacher):
    side = min(student.shape[-1], teacher.shape[-1])
    student, teacher = block_mean(student, side), block_mean(teacher, side)
    mean = regressed(student, [layer for layer in likelihood.regressor if hasattr(layer, "weight")])
    variance = softplus(likelihood.alpha.detach().numpy()) + EPS
    total = 0.0
    for b, c, i, j in np.ndindex(teacher.shape):
        total += (teacher[b, c, i, j] - mean[b, c, i, j]) ** 2 / (2 * variance[c]) + np.log(variance[c]) / 2
    return total / teacher.size


def test_is_the_negative_log_likelihood_summed_over_the_stages():
    student, teacher = student_features(), teacher_features(sides=(8, 16, 4, 2))
    method = make("vid", student, teacher)
    randomise(method)
    stages = zip(method.likelihoods, student.stages[1:], teacher.stages[1:], strict=True)
    expected = sum(reference(each, s.numpy(), t.numpy()) for each, s, t in stages)
    assert terms_of(method, student, teacher)["vid"].item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("initial_variance", [2e-5, 0.5, 5.0, 300.0, 1000.0])
def test_every_channel_starts_at_the_initial_variance(initial_variance):
    method = make("vid", student_features(), teacher_features(), initial_variance=initial_variance)
    for likelihood in method.likelihoods:
        variance = softplus(likelihood.alpha.detach().numpy()) + EPS
        np.testing.assert_allclose(variance, initial_variance, rtol=1e-6)


def test_the_best_variance_is_the_squared_error():
    """Where the gradient by σ² vanishes, σ² is the channel's mean squared error."""
    mean, teacher = draw_maps(0, 3, 2), draw_maps(1, 3, 2)
    variance = (teacher - mean).square().mean(dim=(0, 2, 3)).requires_grad_()
    gaussian_loss(mean, variance, teacher).backward()
    np.testing.assert_allclose(variance.grad.numpy(), 0, atol=1e-12)


def test_is_negative_where_the_model_is_sure_and_right():
    teacher = torch.ones(2, 3, 2, 2)
    loss = gaussian_loss(teacher, torch.full((3,), 0.01), teacher)
    assert loss.item() == pytest.approx(np.log(0.01) / 2)
    assert make("vid", student_features(), teacher_features()).signed_terms == {"vid"}


def test_the_variance_trains_unless_told_otherwise():
    student, teacher = student_features(), teacher_features()
    for train_variance in (True, False):
        method = make("vid", student, teacher, train_variance=train_variance)
        trained = {name for name, _ in method.named_parameters() if name.endswith("alpha")}
        assert len(trained) == (3 if train_variance else 0)
        assert {name for name in method.state_dict() if name.endswith("alpha")} >= trained
        assert sum(name.endswith("alpha") for name in method.state_dict()) == 3
