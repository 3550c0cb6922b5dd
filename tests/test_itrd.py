"""ITRD's correlation and mutual information losses against NumPy, and what they say of the embeddings."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from helpers import draw, make, random_features, randomise, student_features, teacher_features, terms_of, with_grad
from hypothesis import given
from hypothesis import strategies as st

from methods.itrd import correlation_loss, correlations, information_loss


def correlation_reference(student, teacher, alpha):
    total = 0.0
    for s, t in zip(student.T, teacher.T, strict=True):
        s, t = ((x - x.mean()) / x.std(ddof=1) for x in (s, t))
        total += abs((s * t).mean() - 1) ** (2 * alpha)
    return math.log2(total)


def information_reference(student, teacher):
    """‖A‖² − ‖A ∘ B‖², each matrix divided by its trace before it is squared."""
    ours, theirs = (
        np.array([[a @ b / np.sqrt((a @ a) * (b @ b)) for b in embedding] for a in embedding])
        for embedding in (student, teacher)
    )
    both = ours * theirs
    return ((ours / np.trace(ours)) ** 2).sum() - ((both / np.trace(both)) ** 2).sum()


@pytest.mark.parametrize("alpha", [0.5, 1.01, 1.5, 3.0])
@pytest.mark.parametrize("width", [7, 9])  # 7 is the student's
def test_terms_are_those_of_the_papers_equations(width, alpha):
    student, teacher = student_features(), teacher_features(embedding=width)
    method = make("itrd", student, teacher, alpha=alpha)
    randomise(method)
    weight, bias = (parameter.detach().numpy() for parameter in method.parameters())
    ours, theirs = student.embedding.numpy(), teacher.embedding.numpy()
    embedded = ours @ weight.T + bias
    terms = terms_of(method, student, teacher)
    assert terms["corr"].item() == pytest.approx(correlation_reference(embedded, theirs, alpha), rel=1e-9)
    compared = ours if width == 7 else embedded
    assert terms["mi"].item() == pytest.approx(information_reference(compared, theirs), rel=1e-9)


@given(seed=st.integers(0, 50), alpha=st.floats(0.5, 5), scale=st.floats(0.01, 100), shift=st.floats(-10, 10))
def test_the_correlation_loss_ignores_scale_and_shift_of_every_channel(seed, alpha, scale, shift):
    student, teacher = draw(seed, 6, 5), draw(seed + 99, 6, 5)
    factor = torch.tensor([scale, 1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    moved = correlation_loss(factor * student + shift, 3 * teacher - shift, alpha)
    torch.testing.assert_close(moved, correlation_loss(student, teacher, alpha), rtol=1e-6, atol=1e-8)


@given(seed=st.integers(0, 50), alpha=st.floats(0.5, 5))
def test_the_correlation_loss_is_least_where_the_channels_agree(seed, alpha):
    """There each of 5 channels is 1 / 6 away from 1, where every one is opposed 11 / 6."""
    student, teacher = draw(seed, 6, 5), draw(seed + 99, 6, 5)
    least, most = (correlation_loss(sign * teacher, teacher, alpha).item() for sign in (1, -1))
    assert least == pytest.approx(math.log2(5) + 2 * alpha * math.log2(1 / 6))
    assert most == pytest.approx(math.log2(5) + 2 * alpha * math.log2(11 / 6))
    assert least < correlation_loss(student, teacher, alpha).item() < most


def test_a_larger_alpha_heeds_the_least_correlated_channel_more():
    student, teacher = draw(0, 6, 5).requires_grad_(), draw(1, 6, 5)
    worst = correlations(student, teacher).argmin()
    shares = []
    for alpha in (0.6, 1.0, 2.0, 8.0):
        (grad,) = torch.autograd.grad(correlation_loss(student, teacher, alpha), student)
        sizes = grad.norm(dim=0)
        shares.append((sizes[worst] / sizes.sum()).item())
    assert shares == sorted(shares)


@given(seed=st.integers(0, 50), scale=st.floats(0.01, 100))
def test_the_information_loss_ignores_rotations_and_the_length_of_every_sample(seed, scale):
    student, teacher = draw(seed, 6, 5), draw(seed + 99, 6, 4)
    rotation, _ = torch.linalg.qr(draw(seed, 5, 5))
    length = torch.tensor([scale, 1.0, 2.0, 3.0, 4.0, -5.0], dtype=torch.float64)[:, None]
    moved = information_loss(length * student @ rotation, length * teacher)
    torch.testing.assert_close(moved, information_loss(student, teacher), rtol=1e-8, atol=1e-12)


def test_the_information_loss_is_zero_where_only_what_is_collinear_to_the_teacher_is_alike():
    classes = torch.tensor([0, 0, 1, 1, 2, 2])
    one_hot = torch.eye(3, dtype=torch.float64)[classes]
    signed = one_hot * draw(0, 6, 1)
    assert information_loss(one_hot, signed).item() == pytest.approx(0, abs=1e-15)
    parted = torch.eye(6, dtype=torch.float64)
    assert information_loss(parted, draw(1, 6, 4)).item() == pytest.approx(0, abs=1e-15)
    alike = torch.ones(6, 3, dtype=torch.float64)
    assert information_loss(alike, one_hot).item() == pytest.approx(24 / 36)  # all pairs of different classes


@given(seed=st.integers(0, 99))
def test_the_information_loss_lies_between_0_and_1(seed):
    assert 0 <= information_loss(draw(seed, 6, 5), draw(seed + 100, 6, 4)) < 1


def test_a_large_alpha_does_not_underflow():
    teacher = draw(0, 64, 5).float()
    least = correlation_loss(teacher, teacher, 20.0)
    assert least.item() == pytest.approx(math.log2(5) - 40 * 6, rel=1e-3)


@pytest.mark.parametrize("value", [0.1, 0.7, 3.3])
def test_a_channel_of_equal_values_correlates_with_nothing(value):
    """Whatever its mean was rounded to: what is left of it has a direction, and a gradient of its reciprocal."""
    student = draw(0, 64, 5).float()
    student[:, 2] = value
    student.requires_grad_()
    teacher = draw(1, 64, 5).float()
    assert correlations(student, teacher)[2] == 0
    correlation_loss(student, teacher, 1.01).backward()
    assert student.grad.abs().max() < 10


@pytest.mark.parametrize("dead", ["student", "teacher"])
def test_channels_that_do_not_vary_and_samples_without_direction_are_finite(dead):
    """The last channels of a ReLU are often 0 in the whole batch, for which the authors' code divides by 0."""
    features = {"student": random_features(embedding=5, seed=0), "teacher": random_features(embedding=5, seed=1)}
    embedding = features[dead].embedding.clone()
    embedding[:, 2] = 0
    embedding[3] = 0
    features[dead] = dataclasses.replace(features[dead], embedding=embedding)
    student, teacher = with_grad(features["student"].map(torch.Tensor.float)), features["teacher"]
    teacher = teacher.map(torch.Tensor.float)
    ours = student.embedding
    loss = correlation_loss(ours, teacher.embedding, 1.01) + information_loss(ours, teacher.embedding)
    loss.backward()
    assert loss.isfinite()
    assert ours.grad.abs().max() < 10
    assert correlations(ours, teacher.embedding)[2] == 0


def test_the_method_trains_student_and_layer_alone():
    student, teacher = with_grad(student_features()), teacher_features()
    for term in ("corr", "mi"):
        method = make("itrd", student, teacher, weights={"corr": 0.0, "mi": 0.0} | {term: 1.0})
        terms_of(method, student, teacher)[term].backward()
        assert student.embedding.grad.any()
        assert student.logits.grad is None
        assert method.embed.weight.shape == (9, 7)
        assert method.embed.weight.grad.any()


def test_no_layer_is_built_where_none_is_needed():
    student, teacher = student_features(), teacher_features(embedding=7)
    assert not list(make("itrd", student, teacher, weights={"corr": 0.0}).parameters())
    assert not list(make("itrd", student, teacher_features(), weights={"corr": 0.0, "mi": 0.0}).parameters())
