"""CRD's scores, loss, memory banks and negatives against a slow reference that gathers row by row."""

import copy

import numpy as np
import pytest
import torch
from helpers import INDEX, NUM_CLASSES, TARGET, TARGETS, make, random_features, terms_of
from scipy import stats

import methods
from methods import FeatureSpec, InvalidSetting
from methods.crd import MemoryBank, NegativeSampler

EPS = 1e-7
NUM_DATA = len(TARGETS)


def pair(seed=0):
    return random_features(embedding=7, seed=seed), random_features(embedding=9, seed=seed + 1000)


def drawn_negatives(method):
    """The negatives that the method's next forward will use."""
    return method.sampler(TARGET, method.num_negatives, copy.deepcopy(method.generator)).numpy()


def unit(vector):
    return vector / np.sqrt((vector**2).sum())


class Reference:
    """The algorithm of the authors' code, one anchor and one row at a time, in float64."""

    def __init__(self, method):
        self.method = method
        self.temperature = method.config.contrast_temperature
        self.momentum = method.config.momentum
        self.banks = {
            "student": method.bank_student.rows.numpy().copy(),
            "teacher": method.bank_teacher.rows.numpy().copy(),
        }
        self.z = {}

    def embed(self, layer, embedding):
        weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        return [unit(weight @ vector + bias) for vector in embedding.numpy()]

    def step(self, student, teacher, negatives):
        anchors = {
            "student": self.embed(self.method.embed_student, student.embedding),
            "teacher": self.embed(self.method.embed_teacher, teacher.embedding),
        }
        rows = [[index, *others] for index, others in zip(INDEX.tolist(), negatives.tolist(), strict=True)]
        loss = self.contrast("student", anchors["student"], self.banks["teacher"], rows)
        loss += self.contrast("teacher", anchors["teacher"], self.banks["student"], rows)
        for name, bank in self.banks.items():
            for anchor, index in zip(anchors[name], INDEX.tolist(), strict=True):
                bank[index] = unit(self.momentum * bank[index] + (1 - self.momentum) * anchor)
        return loss

    def contrast(self, name, anchors, bank, rows):
        scores = np.array(
            [
                [np.exp(bank[row] @ anchor / self.temperature) for row in own]
                for anchor, own in zip(anchors, rows, strict=True)
            ]
        )
        self.z.setdefault(name, scores.mean() * NUM_DATA)
        loss = 0.0
        for own in scores / self.z[name]:
            noise = (len(own) - 1) / NUM_DATA
            loss -= np.log(own[0] / (own[0] + noise + EPS))
            loss -= sum(np.log(noise / (ratio + noise + EPS)) for ratio in own[1:])
        return loss / len(scores)


@pytest.mark.parametrize("config", [{}, {"momentum": 0.9, "contrast_temperature": 0.2, "dim": 5}])
def test_matches_the_reference_over_several_steps(config):
    """Z comes from the first batch and stays; the banks move after they were scored."""
    method = make("crd", *pair(), num_negatives=11, **config)
    reference = Reference(method)
    for step in range(3):
        student, teacher = pair(seed=step)
        expected = reference.step(student, teacher, drawn_negatives(method))
        assert terms_of(method, student, teacher)["crd"].item() == pytest.approx(expected, rel=1e-8)
        for bank, name in ((method.bank_student, "student"), (method.bank_teacher, "teacher")):
            np.testing.assert_allclose(bank.rows.numpy(), reference.banks[name], rtol=1e-9)
    # Scores of student anchors are against the teacher's bank, so its Z belongs to them.
    assert method.bank_teacher.z.item() == pytest.approx(reference.z["student"])
    assert method.bank_student.z.item() == pytest.approx(reference.z["teacher"])


def test_only_the_batchs_rows_move_and_become_unit_vectors():
    method = make("crd", *pair())
    before = method.bank_student.rows.clone()
    terms_of(method, *pair())
    others = np.setdiff1d(np.arange(NUM_DATA), INDEX.numpy())
    torch.testing.assert_close(method.bank_student.rows[others], before[others], rtol=0, atol=0)
    norms = method.bank_student.rows[INDEX].norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms))


def test_the_banks_rest_in_evaluation():
    """Before the first step, too, when their Z is not set yet, and after it."""
    method = make("crd", *pair())
    for seed in range(2):
        before = copy.deepcopy([method.bank_student.state_dict(), method.bank_teacher.state_dict()])
        terms_of(method.eval(), *pair(seed))
        after = [method.bank_student.state_dict(), method.bank_teacher.state_dict()]
        for old, new in zip(before, after, strict=True):
            assert all(torch.equal(old[key], new[key]) for key in old)
        terms_of(method.train(), *pair(seed))


def test_gradient_equals_a_naive_gathers_although_the_bank_moves_before_backward():
    student, teacher = pair()
    method = make("crd", student, teacher, num_negatives=9)
    terms_of(method, *pair(seed=5))  # so that Z is set and the rows are no longer the initial ones
    rows = torch.cat([INDEX[:, None], torch.from_numpy(drawn_negatives(method))], dim=1)
    bank, z = method.bank_teacher.rows.clone(), method.bank_teacher.z.clone()

    naive = student.embedding.clone().requires_grad_()
    anchor = torch.nn.functional.normalize(method.embed_student(naive), dim=1)
    ratio = torch.exp(torch.bmm(bank[rows], anchor[:, :, None])[:, :, 0] / 0.07) / z
    noise = 9 / NUM_DATA
    probability = ratio / (ratio + noise + EPS)  # that a row is the anchor's own
    misses = noise / (ratio[:, 1:] + noise + EPS)
    (-(probability[:, 0].log().sum() + misses.log().sum()) / len(INDEX)).backward()

    leaf = student.embedding.clone().requires_grad_()
    ours = type(student)((), (), leaf, student.logits)
    terms_of(method, ours, teacher)["crd"].backward()
    torch.testing.assert_close(leaf.grad, naive.grad, rtol=1e-9, atol=1e-12)


def test_two_batches_can_be_scored_before_one_backward():
    """As with several views of a batch, or gradient accumulation."""
    method = make("crd", *pair())
    losses = [terms_of(method, *pair(seed=seed))["crd"] for seed in (0, 1)]
    sum(losses).backward()
    assert all(parameter.grad.isfinite().all() for parameter in method.parameters())


@pytest.mark.parametrize("targets", [[0, 1, 2, 2, 1, 0, 2, 2, 2], [3, 0, 0, 3, 5, 5, 5, 0], [1, 0]])
def test_negatives_are_uniform_over_the_other_classes(targets):
    """Classes of unequal size, out of order, and with labels that never occur."""
    targets = torch.tensor(targets)
    sampler = NegativeSampler(targets, num_classes=7)
    num_draws = 4000
    generator = torch.Generator().manual_seed(0)
    negatives = sampler(targets, num_draws, generator)
    assert negatives.shape == (len(targets), num_draws)
    for anchor, drawn in enumerate(negatives):
        others = (targets != targets[anchor]).nonzero()[:, 0]
        counts = torch.bincount(drawn, minlength=len(targets))
        assert counts[others].sum() == num_draws  # so none of the anchor's own class
        if len(others) > 1:
            assert stats.chisquare(counts[others].numpy()).pvalue > 1e-3


def test_rows_of_a_batch_get_different_negatives():
    sampler = NegativeSampler(TARGETS, NUM_CLASSES)
    first, second = sampler(TARGETS[[0, 0]], 50, torch.Generator().manual_seed(0))
    assert not torch.equal(first, second)


def test_no_more_negatives_than_there_are_of_other_classes():
    method = make("crd", *pair())
    assert method.config.num_negatives == 16384
    assert method.num_negatives == NUM_DATA - int(TARGETS.bincount().max())
    assert make("crd", *pair(), num_negatives=3).num_negatives == 3


def test_needs_two_classes():
    student, teacher = map(FeatureSpec.of, pair())
    with pytest.raises(InvalidSetting, match="two classes"):
        methods.create("crd", student, teacher, num_classes=4, targets=torch.zeros(9, dtype=torch.long))


def test_rows_start_uniform_with_about_unit_length():
    torch.manual_seed(0)
    rows = MemoryBank(500, 128).rows
    bound = (3 / 128) ** 0.5
    assert rows.abs().max() <= bound
    assert rows.abs().max() > 0.99 * bound
    assert rows.square().sum(dim=1).mean().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("contrast_temperature", [0.02, 0.07])
def test_stays_finite_in_float32(contrast_temperature):
    """exp(1 / 0.02) = 5e21 beside exp(−1 / 0.02): positives as far away as they can be."""
    student, teacher = (random_features(dtype=torch.float32, seed=seed) for seed in (0, 1))
    method = make("crd", student, teacher, contrast_temperature=contrast_temperature)
    terms_of(method, student, teacher)
    with torch.no_grad():
        anchor = torch.nn.functional.normalize(method.embed_student(student.embedding), dim=1)
        method.bank_teacher.rows[INDEX] = -anchor
    loss = terms_of(method, student, teacher)["crd"]
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in method.parameters())
