"""SRD's normalised embeddings and their LogSum distance against NumPy, and what a soft maximum promises."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from helpers import (
    batch_norm,
    draw,
    make,
    random_features,
    randomise,
    student_features,
    teacher_features,
    terms_of,
    with_grad,
)
from hypothesis import given
from hypothesis import strategies as st

from methods import InvalidSetting
from methods.srd import logsum_loss

EPS, NORM_EPS = 1e-5, 1e-4  # the authors'


def normalised(embedding):
    """Each channel without its mean and over its deviation in the batch."""
    ones = np.ones(embedding.shape[1])
    return batch_norm(embedding[:, :, None, None], ones, 0 * ones, eps=NORM_EPS)[:, :, 0, 0]


def reference(student, teacher, exponent):
    total = 0.0
    for s, t in zip(student.ravel(), teacher.ravel(), strict=True):
        total += abs(s - t) ** exponent
    return math.log(total + EPS)


@pytest.mark.parametrize("exponent", [1.0, 2.0, 3.5, 4.0])
def test_is_the_logarithm_of_the_summed_powers(exponent):
    student, teacher = student_features(), teacher_features()
    method = make("srd", student, teacher, exponent=exponent)
    randomise(method)
    projected = student.embedding.numpy() @ method.projector.weight.detach().numpy().T
    expected = reference(normalised(projected), normalised(teacher.embedding.numpy()), exponent)
    assert terms_of(method, student, teacher)["srd"].item() == pytest.approx(expected, rel=1e-9)


@given(seed=st.integers(0, 50), exponent=st.floats(0.5, 8), scale=st.floats(0.1, 10))
def test_is_a_soft_maximum_of_the_differences(seed, exponent, scale):
    student, teacher = draw(seed, 4, 5), draw(seed + 99, 4, 5)
    loss = logsum_loss(student, teacher, exponent).item()
    largest = exponent * math.log((student - teacher).abs().max())
    assert largest <= loss <= largest + math.log(student.numel()) + 1e-4
    scaled = logsum_loss(scale * student, scale * teacher, exponent).item()
    assert scaled == pytest.approx(loss + exponent * math.log(scale), abs=0.02)  # but for what is added to the sum


def test_a_larger_exponent_heeds_the_largest_difference_more():
    student, teacher = draw(0, 4, 5).requires_grad_(), draw(1, 4, 5)
    shares = []
    for exponent in (1.0, 2.0, 4.0, 8.0):
        (grad,) = torch.autograd.grad(logsum_loss(student, teacher, exponent), student)
        shares.append((grad.abs().max() / grad.abs().sum()).item())
    assert shares == sorted(shares)
    assert shares[0] == pytest.approx(1 / student.numel())


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0, 4.0])
def test_equal_embeddings_have_a_finite_loss_and_no_gradient(exponent):
    student = draw(0, 4, 5).float().requires_grad_()
    loss = logsum_loss(student, student.detach(), exponent)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(EPS), rel=1e-3)
    assert torch.equal(student.grad, torch.zeros_like(student))


def test_embeddings_of_zeros_are_finite():
    student, teacher = student_features(), teacher_features()
    ours, theirs = (
        with_grad(dataclasses.replace(features, embedding=torch.zeros_like(features.embedding)))
        for features in (student, teacher)
    )
    method = make("srd", student, teacher)
    loss = terms_of(method, ours, theirs)["srd"]
    loss.backward()
    assert loss.isfinite()
    assert ours.embedding.grad.isfinite().all()


@given(seed=st.integers(0, 50), scale=st.floats(0.5, 100), shift=st.floats(-10, 10))
def test_ignores_scale_and_shift_of_every_channel(seed, scale, shift):
    """But for the constant in the batch norms' root."""
    student, teacher = (random_features(embedding=6, seed=seed + k) for k in (0, 99))
    method = make("srd", student, teacher)
    factor = torch.tensor([scale, 1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.float64)
    other = dataclasses.replace(teacher, embedding=factor * teacher.embedding + shift)
    expected, found = (terms_of(method, student, theirs)["srd"].item() for theirs in (teacher, other))
    assert found == pytest.approx(expected, abs=1e-2)


def test_trains_student_and_projector_alone():
    student, teacher = with_grad(student_features()), teacher_features()
    method = make("srd", student, teacher)
    terms_of(method, student, teacher)["srd"].backward()
    assert student.embedding.grad.any()
    assert student.logits.grad is None
    (parameter,) = method.parameters()
    assert parameter.shape == (9, 7)
    assert parameter.grad.any()


@pytest.mark.parametrize("exponent", [0.0, -1.0, math.nan, math.inf])
def test_refuses_an_exponent_that_is_none(exponent):
    with pytest.raises(InvalidSetting, match="exponent"):
        make("srd", student_features(), teacher_features(), exponent=exponent)
