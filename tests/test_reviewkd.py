"""ReviewKD's chain and distance against a reference that follows the figures of the paper, in NumPy."""

import numpy as np
import pytest
from helpers import (
    block_mean,
    connected,
    convolution,
    draw,
    make,
    randomise,
    student_features,
    teacher_features,
    terms_of,
)

from methods.reviewkd import hcl_loss


def hcl_reference(student, teacher):
    side = student.shape[-1]
    total, weights, weight = 0.0, 0.0, 1.0
    for grid in (side, *(each for each in (4, 2, 1) if each < side)):
        total += weight * ((block_mean(student, grid) - block_mean(teacher, grid)) ** 2).mean()
        weights += weight
        weight /= 2
    return total / weights


@pytest.mark.parametrize("side", [1, 2, 4, 8])
def test_hcl_is_a_pyramid_of_squared_differences(side):
    student, teacher = draw(0, 3, 2, side, side), draw(1, 3, 2, side, side)
    expected = hcl_reference(student.numpy(), teacher.numpy())
    assert hcl_loss(student, teacher).item() == pytest.approx(expected, rel=1e-10)
    assert hcl_loss(teacher, teacher) == 0


def test_hcl_weighs_a_constant_offset_fully():
    teacher = draw(0, 3, 2, 8, 8)
    assert hcl_loss(teacher + 2, teacher).item() == pytest.approx(4)


def nearest(x, side):
    index = np.arange(side) * x.shape[-1] // side
    return x[:, :, index][:, :, :, index]


def reference(method, student, teacher):
    """From the embedding up to the first stage."""
    levels = [(student.embedding[:, :, None, None], teacher.embedding[:, :, None, None])]
    levels += [(student.stages[s], teacher.preacts[t]) for s, t in method.config.stages[::-1]]
    total, deeper = 0.0, None
    for block, (ours, theirs) in zip(method.blocks, levels, strict=True):
        fused = connected(block.enter, ours.numpy())
        if deeper is not None:
            deeper = nearest(deeper, fused.shape[-1])
            layer = block.attention[0]
            weight, bias = (parameter.detach().numpy() for parameter in layer.parameters())
            scores = convolution(np.concatenate([fused, deeper], axis=1), weight, bias)
            attention = 1 / (1 + np.exp(-scores))
            fused = fused * attention[:, :1] + deeper * attention[:, 1:]
        deeper = fused = nearest(fused, theirs.shape[-1])
        total += hcl_reference(connected(block.leave, fused), theirs.numpy())
    return total


@pytest.mark.parametrize("sides", [(8, 8, 4, 4), (8, 16, 8, 4), (8, 4, 4, 2)], ids=["equal", "larger", "smaller"])
def test_is_the_chain_of_fusions_from_the_embedding_up(sides):
    student, teacher = student_features(), teacher_features(sides=sides)
    method = make("reviewkd", student, teacher)
    randomise(method)
    term = terms_of(method, student, teacher)["reviewkd"]
    assert term.item() == pytest.approx(reference(method, student, teacher), rel=1e-8)


def test_follows_a_stage_map():
    student, teacher = student_features(), teacher_features()
    method = make("reviewkd", student, teacher, stages=[[1, 2], [3, 3]])
    randomise(method)
    term = terms_of(method, student, teacher)["reviewkd"]
    assert term.item() == pytest.approx(reference(method, student, teacher), rel=1e-8)


@pytest.mark.parametrize(("max_width", "width"), [(512, 7), (4, 4)])
def test_the_fusion_is_as_wide_as_the_embedding_up_to_a_limit(max_width, width):
    method = make("reviewkd", student_features(), teacher_features(), max_width=max_width)
    assert {block.enter[0].out_channels for block in method.blocks} == {width}


def test_convolutions_start_as_wide_as_the_authors():
    """Uniform within sqrt(3 / inputs), where torch's own start is narrower, within sqrt(1 / inputs)."""
    method = make("reviewkd", student_features(), teacher_features())
    for block in method.blocks:
        for weight in (block.enter[0].weight, block.leave[0].weight):
            inputs = weight[0].numel()
            assert (1 / inputs) ** 0.5 < weight.abs().max() <= (3 / inputs) ** 0.5
