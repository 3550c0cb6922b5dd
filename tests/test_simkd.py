"""SimKD: projector and reused classifier against NumPy, and what it predicts."""

import dataclasses

import numpy as np
import pytest
import torch
from helpers import (
    INDEX,
    NUM_CLASSES,
    TARGET,
    Headed,
    batch_norm,
    block_mean,
    convolution,
    make,
    random_features,
    randomise,
    terms_of,
)

from methods import InvalidSetting


def pair(sides=(4, 4)):
    student = random_features((3, 4), (8, sides[0]), embedding=6, seed=1)
    teacher = random_features((3, 4), (8, sides[1]), embedding=8, seed=2)
    return student, teacher


def projected(method, x):
    weights = iter([parameter.detach().numpy() for parameter in method.projector.parameters()])
    for padding in (0, 1, 0):
        weight, gamma, beta = next(weights), next(weights), next(weights)
        x = np.maximum(batch_norm(convolution(x, weight, 0, 1, padding), gamma, beta), 0)
    return x


@pytest.mark.parametrize("sides", [(4, 4), (8, 4), (2, 4)])
@pytest.mark.parametrize("factor", [1, 2, 8])
def test_matches_the_definition(sides, factor):
    student, teacher = pair(sides)
    method = make("simkd", student, teacher, factor=factor)
    randomise(method)
    side = min(sides)
    ours = projected(method, block_mean(student.final.numpy(), side))
    assert ours.shape == (6, 8, side, side)
    theirs = block_mean(teacher.final.numpy(), side)
    assert terms_of(method, student, teacher)["simkd"].item() == pytest.approx(((ours - theirs) ** 2).mean())
    head = Headed(teacher, seed=1).head  # the one that `make` showed the method
    logits = ours.mean(axis=(2, 3)) @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    np.testing.assert_allclose(method.predict(student).logits.detach().numpy(), logits)


def test_cross_entropy_and_soft_targets_judge_the_reused_classifier():
    student, teacher = pair()
    method = make("simkd", student, teacher, weights={"ce": 1.0, "kd": 1.0})
    other = dataclasses.replace(student, logits=student.logits + 5 * torch.randn_like(student.logits))
    assert torch.equal(method.predict(student).logits, method.predict(other).logits)
    assert terms_of(method, student, teacher)["kd"] == terms_of(method, other, teacher)["kd"]


def test_a_perfect_student_predicts_what_the_teacher_does():
    """Where the projected map is the teacher's, so are the logits: the mean of its map is what its head reads."""
    student, teacher = pair()
    teacher = dataclasses.replace(teacher, embedding=teacher.final.mean(dim=(2, 3)))
    method = make("simkd", student, teacher)
    head = Headed(teacher, seed=1).head
    method.projector = torch.nn.Identity()
    same_map = dataclasses.replace(student, final=teacher.final)
    torch.testing.assert_close(method.predict(same_map).logits, head(teacher.embedding))
    assert terms_of(method, same_map, teacher)["simkd"] == 0


def test_features_that_it_did_not_project_are_refused():
    """The maps of both networks may be of one shape: then nothing else would tell."""
    student, _ = pair()
    method = make("simkd", student, student)
    with pytest.raises(InvalidSetting, match=r"method\.predict\(features\)"):
        method(student, student, TARGET, INDEX)


@pytest.mark.parametrize("factor", [0, 9])
def test_refuses_a_bottleneck_of_no_width(factor):
    with pytest.raises(InvalidSetting, match="factor"):
        make("simkd", *pair(), factor=factor)


def test_what_stays_in_the_student_is_counted_and_the_classifier_does_not_learn():
    method = make("simkd", *pair(), factor=2)
    sizes = {name: parameter.numel() for name, parameter in method.named_parameters()}
    assert sum(sizes.values()) == (6 * 4 + 8) + (4 * 4 * 9 + 8) + (4 * 8 + 16)
    assert method.weight.shape == (NUM_CLASSES, 8)
    assert not method.weight.requires_grad
    assert method.predicts
    assert not make("kd", *pair()).predicts
