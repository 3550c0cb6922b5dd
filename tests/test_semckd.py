"""SemCKD's attention and distances against loops over samples and stages."""

import numpy as np
import pytest
import torch
from helpers import block_mean, make, randomise, student_features, teacher_features, terms_of

from methods import InvalidSetting


def embedded(similarities, module):
    """A row of similarities, filled up with zeros, through the MLP, to unit length."""
    first, _, second = module.embed
    row = np.concatenate([similarities, np.zeros(module.batch_size - len(similarities))])
    hidden = np.maximum(first.weight.detach().numpy() @ row + first.bias.detach().numpy(), 0)
    out = second.weight.detach().numpy() @ hidden + second.bias.detach().numpy()
    return out / np.sqrt((out**2).sum())


def attention_reference(method, student, teacher, sample):
    def vectors(stages, modules):
        flat = [stage.flatten(1).numpy() for stage in stages]
        return [embedded(each @ each[sample], module) for each, module in zip(flat, modules, strict=True)]

    queries, keys = vectors(student, method.queries), vectors(teacher, method.keys)
    scores = np.exp([[query @ key for key in keys] for query in queries])
    return scores / scores.sum(axis=1, keepdims=True)


def reference(method, student, teacher):
    """The projections are the modules' own: here it is the weighting that is checked."""
    ours, theirs = student.stages[1:], teacher.stages[1:]
    projected = {}
    for s, t in np.ndindex(len(ours), len(theirs)):
        side = min(ours[s].shape[-1], theirs[t].shape[-1])
        pooled = torch.from_numpy(block_mean(ours[s].numpy(), side))
        projected[s, t] = method.projections[s][t](pooled).detach().numpy(), block_mean(theirs[t].numpy(), side)
    total = 0.0
    for sample in range(len(ours[0])):
        attention = attention_reference(method, ours, theirs, sample)
        for (s, t), (mine, hint) in projected.items():
            total += attention[s, t] * ((mine[sample] - hint[sample]) ** 2).mean()
    return total / len(ours[0]) / len(ours)


@pytest.mark.parametrize("batch_size", [6, 64], ids=["whole", "filled up"])
def test_weighs_every_pair_of_stages_by_attention(batch_size):
    student, teacher = student_features(), teacher_features(sides=(8, 16, 4, 2))
    method = make("semckd", student, teacher, batch_size=batch_size, max_width=8)
    randomise(method)
    term = terms_of(method, student, teacher)["semckd"]
    assert term.item() == pytest.approx(reference(method, student, teacher), rel=1e-8)


def test_serves_networks_of_unequal_depth():
    student = student_features(channels=(3, 4, 6), sides=(8, 8, 4))
    method = make("semckd", student, teacher_features(), max_width=8)
    assert [len(each) for each in method.projections] == [3, 3]
    assert terms_of(method, student, teacher_features())["semckd"].isfinite()


def test_projections_have_twice_the_teachers_channels_up_to_a_limit():
    method = make("semckd", student_features(), teacher_features(), max_width=12)
    for projections in method.projections:
        assert [each[0][0].out_channels for each in projections] == [10, 12, 12]


def test_a_batch_that_is_too_long_is_refused_by_name():
    student, teacher = student_features(), teacher_features()
    method = make("semckd", student, teacher, batch_size=5)
    with pytest.raises(InvalidSetting, match="batch_size=5"):
        terms_of(method, student, teacher)


@pytest.mark.parametrize(("batch_size", "dim"), [(64, 16), (6, 1), (2, 1)])
def test_embedded_similarities_have_a_quarter_of_the_batchs_length(batch_size, dim):
    method = make("semckd", student_features(), teacher_features(), batch_size=batch_size, max_width=8)
    for module in (*method.queries, *method.keys):
        assert [layer.out_features for layer in module.embed[::2]] == [2 * dim, dim]
