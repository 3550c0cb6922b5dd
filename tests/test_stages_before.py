"""AB, FSP and FT, which learn something before the main training, against their definitions in NumPy."""

import itertools

import numpy as np
import pytest
import torch
from helpers import (
    batch_norm,
    block_mean,
    convolution,
    deconvolution,
    draw,
    make,
    pretraining_terms_of,
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
from methods.ab import ab_loss
from methods.fsp import fsp_loss, fsp_matrix
from methods.ft import Factor, ft_loss

SEEDS = st.integers(0, 2**16)


# AB


def ab_reference(student, teacher, margin):
    """The paper's alternative loss, neuron by neuron."""
    total = 0.0
    for ours, theirs in zip(student.ravel(), teacher.ravel(), strict=True):
        lacking = margin - ours if theirs > 0 else margin + ours
        total += max(lacking, 0.0) ** 2
    return total / len(student)


@pytest.mark.parametrize("margin", [0.3, 1.0, 2.0])
def test_ab_matches_the_definition(margin):
    student, teacher = draw(0, 3, 4, 2, 2), draw(1, 3, 4, 2, 2)
    teacher[0, 0] = 0  # not active
    expected = ab_reference(student.numpy(), teacher.numpy(), margin)
    assert ab_loss(student, teacher, margin).item() == pytest.approx(expected, rel=1e-12)


@given(SEEDS, st.floats(0.1, 3))
def test_ab_asks_for_the_side_alone(seed, margin):
    student, teacher = draw(seed, 2, 3, 2, 2), draw(seed + 1, 2, 3, 2, 2)
    loss = ab_loss(student, teacher, margin)
    assert ab_loss(student, teacher * 7, margin) == loss
    assert ab_loss(margin * teacher.sign() * (1 + student.abs()), teacher, margin) == 0
    assert ab_loss(torch.zeros_like(student), teacher, margin).item() == pytest.approx(margin**2 * 12)


def test_ab_counts_later_stages_twice_as_much_and_connects_where_shapes_differ():
    student = random_features((3, 4, 6), (8, 8, 8), seed=1)
    teacher = random_features((3, 4, 7), (8, 8, 4), seed=2)
    method = make("ab", student, teacher, margin=0.7)
    randomise(method)
    first, second = method.connectors
    assert not list(first.parameters())  # equal shapes
    weight, bias, gamma, beta = (parameter.detach().numpy() for parameter in second.parameters())
    connected = batch_norm(convolution(student.preacts[2].numpy(), weight, bias, 2, 1), gamma, beta)
    losses = [
        ab_reference(student.preacts[1].numpy(), teacher.preacts[1].numpy(), 0.7),
        ab_reference(connected, teacher.preacts[2].numpy(), 0.7),
    ]
    found = pretraining_terms_of(method, student, teacher)
    assert found["ab"].item() == pytest.approx(3 / 1000 * (losses[0] / 2 + losses[1]), rel=1e-9)


def test_ab_refuses_the_stem():
    with pytest.raises(InvalidSetting, match="stem"):
        make("ab", student_features(), teacher_features(), stages=[[0, 0], [1, 1]])


@pytest.mark.parametrize("name", ["ab", "fsp"])
def test_the_weight_of_what_acts_only_before_does_not_exist(name):
    student, teacher = student_features(), teacher_features(channels=(3, 4, 6, 5))
    with pytest.raises(InvalidSetting, match=f"weights.{name}: {name} has the terms ce, kd"):
        make(name, student, teacher, weights={name: 1.0})
    assert make(name, student, teacher).needs == set()  # the main training asks no teacher
    assert make(name, student, teacher, weights={"kd": 0.9}).needs == {"logits"}


# FSP


def fsp_reference(student, teacher):
    total = 0.0
    for s, t in zip(itertools.pairwise(student), itertools.pairwise(teacher), strict=True):
        matrices = []
        for first, second in (s, t):
            side = min(first.shape[-1], second.shape[-1])
            first, second = block_mean(first, side), block_mean(second, side)
            matrices.append(np.einsum("bihw,bjhw->bij", first, second) / side**2)
        total += ((matrices[0] - matrices[1]) ** 2).mean()
    return total


def test_fsp_matches_the_definition_for_maps_of_any_side():
    student = random_features((3, 4, 6, 5), (8, 8, 4, 2), seed=1)
    teacher = random_features((3, 4, 6, 5), (4, 8, 8, 4), seed=2)
    method = make("fsp", student, teacher)
    assert method.config.stages == [[0, 0], [1, 1], [2, 2], [3, 3]]
    expected = fsp_reference([x.numpy() for x in student.stages], [x.numpy() for x in teacher.stages])
    assert pretraining_terms_of(method, student, teacher)["fsp"].item() == pytest.approx(expected, rel=1e-12)
    some = make("fsp", student, teacher, stages=[[0, 0], [2, 2]])
    expected = fsp_reference(*([x.stages[0].numpy(), x.stages[2].numpy()] for x in (student, teacher)))
    assert pretraining_terms_of(some, student, teacher)["fsp"].item() == pytest.approx(expected, rel=1e-12)


def test_fsp_of_networks_of_unequal_depth_has_the_stems_too():
    student, teacher = random_features((3, 4, 6), (8, 8, 4)), random_features((3, 9, 4, 6), (8, 8, 8, 4))
    assert make("fsp", student, teacher).config.stages == [[0, 0], [1, 2], [2, 3]]


@given(SEEDS)
def test_fsp_does_not_know_positions(seed):
    first, second = draw(seed, 2, 3, 4, 4), draw(seed + 1, 2, 5, 4, 4)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(seed))
    moved = [x.flatten(2)[:, :, order].unflatten(2, (4, 4)) for x in (first, second)]
    torch.testing.assert_close(fsp_matrix(*moved), fsp_matrix(first, second))
    torch.testing.assert_close(fsp_matrix(second, first), fsp_matrix(first, second).transpose(1, 2))
    assert fsp_loss((first, second), moved).item() == pytest.approx(0, abs=1e-20)


def test_fsp_names_the_widths_that_differ_and_the_lone_stage():
    student, teacher = student_features(), teacher_features()
    with pytest.raises(InvalidSetting, match="student's stage 1 has 4, the teacher's stage 1 has 5"):
        make("fsp", student, teacher)
    with pytest.raises(InvalidSetting, match="no neighbour"):
        make("fsp", student, teacher, stages=[[0, 0]])


# FT


def leaky(x):
    return np.where(x > 0, x, 0.1 * x)


def ft_reference(student, teacher, spatial):
    side = min(student.shape[-1], teacher.shape[-1])
    units = []
    for factors in (block_mean(student, side), block_mean(teacher, side)):
        vectors = (factors**2).mean(axis=1) if spatial else factors
        vectors = vectors.reshape(len(vectors), -1)
        units.append(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    return np.abs(units[0] - units[1]).mean()


@pytest.mark.parametrize("sides", [(4, 4), (8, 4), (2, 4)])
@pytest.mark.parametrize("factor", Factor)
def test_ft_matches_the_definition(factor, sides):
    student, teacher = (draw(seed, 3, 4, side, side) for seed, side in enumerate(sides))
    expected = ft_reference(student.numpy(), teacher.numpy(), factor == "spatial")
    assert ft_loss(student, teacher, factor).item() == pytest.approx(expected, rel=1e-12)


@given(SEEDS, st.floats(0.1, 10))
def test_ft_knows_no_scale(seed, scale):
    student, teacher = draw(seed, 2, 3, 2, 2), draw(seed + 1, 2, 3, 2, 2)
    for factor in Factor:
        loss = ft_loss(student, teacher, factor)
        assert ft_loss(scale * student, teacher, factor).item() == pytest.approx(loss.item(), rel=1e-9)
        assert ft_loss(scale * teacher, teacher, factor).item() == pytest.approx(0, abs=1e-12)


def test_ft_compares_translated_and_paraphrased_maps():
    student, teacher = student_features(), teacher_features()
    method = make("ft", student, teacher, rate=0.5)
    randomise(method)
    factors = teacher.stages[-1].numpy()
    weights = [parameter.detach().numpy() for parameter in method.paraphraser.encoder.parameters()]
    for weight, bias in zip(weights[::2], weights[1::2], strict=True):
        factors = leaky(convolution(factors, weight, bias, 1, 1))
    ours = student.stages[-1].numpy()
    weights = [parameter.detach().numpy() for parameter in method.translator.parameters()]
    for weight, gamma, beta in zip(*[iter(weights)] * 3, strict=True):
        ours = leaky(batch_norm(convolution(ours, weight, 0, 1, 1), gamma, beta))
    assert ours.shape == factors.shape == (6, 4, 4, 4)
    expected = ft_reference(ours, factors, spatial=False)
    assert terms_of(method, student, teacher)["ft"].item() == pytest.approx(expected, rel=1e-9)


def test_ft_has_one_factor_at_least():
    student, teacher = student_features(), teacher_features()
    assert terms_of(make("ft", student, teacher, rate=0.01), student, teacher)["ft"] > 0


def paraphrase_reference(method, teacher):
    """The mean squared difference of the teacher's last map and what an autoencoder of leaky layers makes of it."""
    hint = x = teacher.stages[-1].numpy()
    for operation, layers in (
        (convolution, method.paraphraser.encoder),
        (deconvolution, method.paraphraser.decoder),
    ):
        weights = [parameter.detach().numpy() for parameter in layers.parameters()]
        assert len(weights) == 6
        for weight, bias in zip(weights[::2], weights[1::2], strict=True):
            assert weight.shape[2:] == (3, 3)
            x = leaky(operation(x, weight, bias, 1, 1))
    return ((x - hint) ** 2).mean()


def test_the_paraphraser_is_an_autoencoder_through_half_the_channels():
    student, teacher = student_features(), teacher_features()
    method = make("ft", student, teacher)
    randomise(method)
    assert [layer.out_channels for layer in method.paraphraser.encoder[::2]] == [8, 4, 4]
    found = pretraining_terms_of(method, student, teacher)["paraphrase"]
    assert found.item() == pytest.approx(paraphrase_reference(method, teacher), rel=1e-9)


def test_the_paraphraser_learns_to_reconstruct_before_and_rests_afterwards():
    student, teacher = with_grad(student_features()), teacher_features()
    method = make("ft", student, teacher)
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        (loss,) = pretraining_terms_of(method, student, teacher).values()
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
    assert losses[0] == pytest.approx(paraphrase_reference(make("ft", student, teacher), teacher), rel=1e-6)
    assert losses[-1] < 0.8 * losses[0]
    assert all(parameter.grad is None for parameter in method.translator.parameters())
    method.zero_grad()
    terms_of(method, student, teacher)["ft"].backward()
    assert all(parameter.grad is None for parameter in method.paraphraser.parameters())
    assert all(parameter.grad.any() for parameter in method.translator.parameters() if parameter.ndim > 1)


def test_without_its_term_ft_has_no_stage_before():
    method = make("ft", student_features(), teacher_features(), weights={"ft": 0.0, "kd": 1.0})
    assert method.pretraining is None
    assert not list(method.parameters())
