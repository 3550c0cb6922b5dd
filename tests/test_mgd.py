"""MGD's generation from a masked map against NumPy, and what its mask promises."""

import dataclasses

import numpy as np
import pytest
import torch
from helpers import (
    block_mean,
    convolution,
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
from methods.mgd import channel_mask


@pytest.mark.parametrize("teacher", [{"embedding": 9}, {}, {"embedding": 9, "sides": (8, 8, 8, 8)}])
@pytest.mark.parametrize("ratio", [0.0, 0.4])
def test_is_the_squared_distance_of_what_is_generated(teacher, ratio):
    student, teacher = student_features(), random_features(seed=2, **teacher)
    method = make("mgd", student, teacher, ratio=ratio, seed=5)
    randomise(method)
    ours, theirs = student.final.numpy(), teacher.final.numpy()
    if ours.shape[1] != theirs.shape[1]:
        weight, bias = (each.detach().numpy() for each in method.align.parameters())
        ours = convolution(ours, weight, bias)
    drawn = torch.rand(*ours.shape[:2], generator=torch.Generator().manual_seed(5)).numpy()
    for sample, channel in np.ndindex(*drawn.shape):
        if drawn[sample, channel] < ratio:
            ours[sample, channel] = 0
    first, first_bias, second, second_bias = (each.detach().numpy() for each in method.generation.parameters())
    hidden = np.maximum(convolution(ours, first, first_bias, padding=1), 0)
    generated = convolution(hidden, second, second_bias, padding=1)
    expected = ((generated - block_mean(theirs, ours.shape[-1])) ** 2).sum() / len(ours)
    assert terms_of(method, student, teacher)["mgd"].item() == pytest.approx(expected, rel=1e-9)


def test_networks_of_equal_channels_need_no_alignment():
    equal = make("mgd", student_features(), student_features(seed=2))
    assert not list(equal.align.parameters())
    assert list(make("mgd", student_features(), teacher_features(embedding=9)).align.parameters())


def test_what_is_masked_learns_nothing_and_the_rest_does():
    features = student_features()
    method = make("mgd", features, features, ratio=0.5, seed=3)
    kept = channel_mask(features.final, 0.5, torch.Generator().manual_seed(3))[:, :, 0, 0].bool()
    ours = with_grad(features)
    terms_of(method, ours, features)["mgd"].backward()
    learns = ours.final.grad.abs().amax(dim=(2, 3)) > 0
    assert torch.equal(learns, kept)
    assert kept.any()
    assert not kept.all()


@given(ratio=st.floats(0, 0.99), seed=st.integers(0, 100))
def test_masks_whole_channels_of_each_sample_by_itself_as_often_as_asked(ratio, seed):
    maps = torch.zeros(40, 50, 2, 2)
    mask = channel_mask(maps, ratio, torch.Generator().manual_seed(seed))
    assert mask.shape == (40, 50, 1, 1)
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    spread = (ratio * (1 - ratio) / mask.numel()) ** 0.5
    assert 1 - mask.mean().item() == pytest.approx(ratio, abs=6 * spread + 1e-6)
    if 0.2 < ratio < 0.8:
        assert not torch.equal(mask[0], mask[1])


def test_each_step_masks_others():
    features = student_features()
    method = make("mgd", features, features, ratio=0.5)
    first, second = (terms_of(method, features, features)["mgd"].item() for _ in range(2))
    assert first != second


def test_a_map_of_zeros_still_teaches_the_generator():
    features = student_features()
    method = make("mgd", features, features)
    silent = dataclasses.replace(features, final=torch.zeros_like(features.final))
    terms_of(method, silent, features)["mgd"].backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in method.parameters())
    assert method.generation[2].bias.grad.abs().min() > 0


@pytest.mark.parametrize("ratio", [-0.1, 1.0])
def test_refuses_a_ratio_that_is_none(ratio):
    with pytest.raises(InvalidSetting, match="ratio"):
        make("mgd", student_features(), teacher_features(), ratio=ratio)
