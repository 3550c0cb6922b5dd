"""Attention transfer against loops, its invariances, and the map between the networks' stages."""

import itertools

import numpy as np
import pytest
import torch
from helpers import block_mean, draw_maps, make, random_features, student_features, teacher_features, terms_of
from hypothesis import given
from hypothesis import strategies as st

from methods import FeatureSpec, InvalidSetting, configure
from methods.at import at_loss


def attention_reference(sample, p):
    """The normalised attention map of one `[C, H, W]`."""
    channels, height, width = sample.shape
    energy = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            energy[i, j] = sum(abs(sample[c, i, j]) ** p for c in range(channels)) / channels
    return energy / np.sqrt((energy**2).sum())


def at_reference(student, teacher, p=2.0):
    side = min(student.shape[-1], teacher.shape[-1])
    student, teacher = block_mean(student, side), block_mean(teacher, side)
    differences = [
        attention_reference(s, p) - attention_reference(t, p) for s, t in zip(student, teacher, strict=True)
    ]
    return (np.stack(differences) ** 2).mean()


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
@pytest.mark.parametrize(("side_student", "side_teacher"), [(4, 4), (8, 4), (4, 8)])
def test_matches_the_definition_with_the_larger_map_pooled(p, side_student, side_teacher):
    student, teacher = draw_maps(0, 4, side_student), draw_maps(1, 6, side_teacher)
    expected = at_reference(student.numpy(), teacher.numpy(), p)
    assert at_loss(student, teacher, p).item() == pytest.approx(expected, rel=1e-10)


@given(
    seed=st.integers(0, 50),
    scales=st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=3),
    order=st.permutations(range(5)),
)
def test_ignores_each_samples_scale_and_the_order_of_channels(seed, scales, order):
    student, teacher = draw_maps(seed, 5, 4), draw_maps(seed + 51, 5, 4)
    scale = torch.tensor(scales, dtype=torch.float64)[:, None, None, None]
    changed = at_loss(student[:, order] * scale, teacher)
    torch.testing.assert_close(changed, at_loss(student, teacher))
    torch.testing.assert_close(at_loss(teacher, student[:, order] * scale), changed)


def test_is_zero_for_equal_attention_of_different_widths():
    teacher = draw_maps(0, 3, 4)
    student = -torch.cat([teacher, teacher], dim=1)
    assert at_loss(student, teacher).item() == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("p", [0.5, 1.0, 2.0])
def test_gradient_is_finite_where_a_rectified_map_is_zero(p):
    student = draw_maps(0, 4, 4).relu()
    student[0, :, 0, 0] = 0
    student[1] = 0
    student.requires_grad_()
    at_loss(student, draw_maps(1, 4, 4), p).backward()
    assert student.grad.isfinite().all()


def test_sums_the_stages_without_the_stem():
    student, teacher = student_features(), teacher_features(sides=(8, 16, 4, 8))
    term = terms_of(make("at", student, teacher), student, teacher)["at"]
    expected = sum(at_reference(student.stages[k].numpy(), teacher.stages[k].numpy()) for k in (1, 2, 3))
    assert term.item() == pytest.approx(expected, rel=1e-10)


def test_follows_an_explicit_stage_map_and_exponent():
    student, teacher = student_features(), teacher_features()
    method = make("at", student, teacher, stages=[[0, 1], [3, 2]], p=1.0)
    pairs = [(0, 1), (3, 2)]
    expected = sum(at_reference(student.stages[s].numpy(), teacher.stages[t].numpy(), 1.0) for s, t in pairs)
    assert terms_of(method, student, teacher)["at"].item() == pytest.approx(expected, rel=1e-10)


# The map between stages, as every method that compares stages resolves it.
def spec_with(num_stages):
    return FeatureSpec.of(random_features(channels=(2,) * num_stages, sides=(2,) * num_stages))


def resolved_stages(num_student, num_teacher):
    return configure("at").resolve(spec_with(num_student), spec_with(num_teacher)).stages


@pytest.mark.parametrize("num_stages", [2, 4, 5])
def test_equal_numbers_of_stages_meet_by_position(num_stages):
    assert [tuple(pair) for pair in resolved_stages(num_stages, num_stages)] == [
        (k, k) for k in range(1, num_stages)
    ]


@given(num_student=st.integers(2, 12), num_teacher=st.integers(2, 12))
def test_unequal_numbers_meet_by_a_monotone_map_that_ends_together(num_student, num_teacher):
    stages = resolved_stages(num_student, num_teacher)
    ours, theirs = zip(*stages, strict=True)
    assert len(stages) == min(num_student, num_teacher) - 1
    assert stages[-1] == [num_student - 1, num_teacher - 1]
    assert ours[0] >= 1
    assert theirs[0] >= 1
    assert all(a < b for a, b in itertools.pairwise(ours))
    assert all(a < b for a, b in itertools.pairwise(theirs))
    assert resolved_stages(num_teacher, num_student) == [[t, s] for s, t in stages]


@pytest.mark.parametrize(
    "stages", [[], [[1]], [[1, 4]], [[-1, 1]], [[True, 1]], [[2, 2], [1, 3]], [[1, 2], [2, 2]]]
)
def test_refuses_an_impossible_stage_map(stages):
    with pytest.raises(InvalidSetting, match="stages"):
        make("at", student_features(), teacher_features(), stages=stages)
