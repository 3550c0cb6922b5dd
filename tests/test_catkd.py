"""CAT-KD's class activation maps and their distance against loops over classes and cells."""

import dataclasses

import numpy as np
import pytest
import torch
from helpers import NUM_CLASSES, Headed, block_mean, make, student_features, teacher_features, terms_of, with_grad

from methods import FeatureSpec, InvalidSetting, configure


def activations(features, weight, resolution):
    """CAM_k = Σ_c W_kc F_c at every position, then the means over the cells."""
    maps = np.stack([np.tensordot(row, features.final.numpy(), axes=([0], [1])) for row in weight], axis=1)
    return block_mean(maps, resolution)


def reference(method, student, teacher):
    config = method.config
    heads = (
        Headed(student, seed=2).head.weight.detach().numpy(),
        Headed(teacher, seed=1).head.weight.detach().numpy(),
    )
    ours, theirs = (
        activations(features, weight, config.resolution)
        for features, weight in zip((student, teacher), heads, strict=True)
    )
    total = 0.0
    for sample, k in np.ndindex(ours.shape[:2]):
        s, t = ours[sample, k], theirs[sample, k]
        if config.normalise:
            s, t = s / np.sqrt((s**2).sum()), t / np.sqrt((t**2).sum())
        total += ((s - t) ** 2).sum()
    return total / ours.size


@pytest.mark.parametrize(("normalise", "resolution"), [(True, 2), (True, 4), (False, 1), (False, 2), (False, 4)])
def test_is_the_mean_squared_difference_of_the_activation_maps(normalise, resolution):
    student, teacher = student_features(), teacher_features(sides=(8, 8, 8, 8))
    method = make("catkd", student, teacher, normalise=normalise, resolution=resolution)
    expected = reference(method, student, teacher)
    assert terms_of(method, student, teacher)["catkd"].item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("normalise", [True, False])
def test_the_term_reaches_map_and_head_of_the_student_alone(normalise):
    student, teacher = with_grad(student_features()), teacher_features()
    method = make("catkd", student, teacher, normalise=normalise)
    heads = Headed(teacher, seed=1), Headed(student, seed=2)
    method.prepare(*heads)
    terms_of(method, student, teacher)["catkd"].backward()
    assert student.final.grad.any()
    assert heads[1].head.weight.grad.any()
    assert heads[0].head.weight.grad is None
    assert not list(method.parameters())
    assert not any("head" in name for name in method.state_dict())


def test_normalised_maps_ignore_each_classs_scale():
    student, teacher = student_features(), teacher_features()
    larger = dataclasses.replace(student, final=7 * student.final)
    method = make("catkd", student, teacher)
    torch.testing.assert_close(terms_of(method, larger, teacher), terms_of(method, student, teacher))


def test_needs_the_same_classes():
    student, teacher = map(FeatureSpec.of, (student_features(), teacher_features()))
    with pytest.raises(InvalidSetting, match="classes"):
        configure("catkd").resolve(student, dataclasses.replace(teacher, logits=NUM_CLASSES + 1))


def test_a_normalised_cell_alone_is_refused():
    with pytest.raises(InvalidSetting, match="resolution=1 with normalise=true"):
        make("catkd", student_features(), teacher_features(), resolution=1)
    make("catkd", student_features(), teacher_features(), resolution=1, normalise=False)
