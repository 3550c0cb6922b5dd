"""PEFD's ensemble of projectors and its cosine against NumPy, and what an ensemble promises."""

import dataclasses

import numpy as np
import pytest
import torch
from helpers import make, randomise, student_features, teacher_features, terms_of, with_grad
from hypothesis import given
from hypothesis import strategies as st

from methods import InvalidSetting
from methods.relations import cosine_distance


@pytest.mark.parametrize("num_projectors", [1, 3, 4])
def test_is_the_distance_in_direction_of_the_projectors_mean(num_projectors):
    student, teacher = student_features(), teacher_features()
    method = make("pefd", student, teacher, num_projectors=num_projectors)
    randomise(method)
    width = teacher.embedding.shape[1]
    weight, bias = (each.detach().numpy() for each in method.projectors.parameters())
    expected = 0.0
    for ours, theirs in zip(student.embedding.numpy(), teacher.embedding.numpy(), strict=True):
        mean = np.zeros(width)
        for k in range(num_projectors):
            rows = slice(k * width, (k + 1) * width)
            mean += np.maximum(weight[rows] @ ours + bias[rows], 0) / num_projectors
        expected += 1 - mean @ theirs / np.linalg.norm(mean) / np.linalg.norm(theirs)
    found = terms_of(method, student, teacher)["pefd"].item()
    assert found == pytest.approx(expected / len(teacher.embedding), rel=1e-9)


def test_projectors_begin_as_linear_layers_of_their_own():
    student, teacher = student_features(), teacher_features()
    inputs, outputs = student.embedding.shape[1], teacher.embedding.shape[1]
    weight, _ = make("pefd", student, teacher).projectors.parameters()
    assert weight.shape == (3 * outputs, inputs)
    assert weight.abs().max() <= inputs**-0.5  # torch's bound, of one linear layer as of three
    first, second, third = weight.split(outputs)
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


@given(scale=st.floats(0.01, 100), seed=st.integers(0, 50))
def test_heeds_the_direction_alone(scale, seed):
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.randn(4, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    torch.testing.assert_close(cosine_distance(scale * first, second), cosine_distance(first, second))
    assert cosine_distance(scale * first, first).item() == pytest.approx(0, abs=1e-9)
    assert cosine_distance(-scale * first, first).item() == pytest.approx(2, abs=1e-9)


def test_embeddings_of_zeros_have_a_loss_and_no_gradient():
    student, teacher = student_features(), teacher_features()
    method = make("pefd", student, teacher)
    zeros = torch.zeros_like(teacher.embedding)
    ours = with_grad(student)
    loss = terms_of(method, ours, dataclasses.replace(teacher, embedding=zeros))["pefd"]
    loss.backward()
    assert loss.item() == 1
    assert not ours.embedding.grad.any()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.fill_(-1.0)  # no projector shows anything
    silent = with_grad(dataclasses.replace(student, embedding=student.embedding.abs()))
    loss = terms_of(method, silent, teacher)["pefd"]
    loss.backward()
    assert loss.item() == 1
    assert not silent.embedding.grad.any()


@pytest.mark.parametrize("number", [0, -1, 1.5])
def test_refuses_a_number_of_projectors_that_is_none(number):
    with pytest.raises(InvalidSetting, match="num_projectors"):
        make("pefd", student_features(), teacher_features(), num_projectors=number)
