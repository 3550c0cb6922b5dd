"""Methods that compare relations within a batch (SP, CC, RKD, PKT) against loops over its pairs and triplets."""

import math

import numpy as np
import pytest
import torch
from helpers import draw, make, random_features, student_features, teacher_features, terms_of
from hypothesis import given
from hypothesis import strategies as st

from methods.catkd import catkd_loss
from methods.cc import adjacent_loss, kernel_loss
from methods.ft import ft_loss
from methods.itrd import information_loss
from methods.pkt import pkt_loss
from methods.relations import channel_products, root, squared_distances, unit_vectors
from methods.rkd import angle_loss, angles, distance_loss
from methods.sp import sp_loss


def orthogonal(seed, dim):
    return torch.linalg.qr(draw(seed, dim, dim))[0]


def unit(vector):
    return vector / np.sqrt((vector**2).sum())


def huber(difference):
    return 0.5 * difference**2 if abs(difference) < 1 else abs(difference) - 0.5


# Shared parts
def test_distances_are_those_of_loops_and_0_to_oneself():
    rows = draw(0, 5, 3)
    expected = [[np.sqrt(((a - b) ** 2).sum()) for b in rows.numpy()] for a in rows.numpy()]
    found = root(squared_distances(rows))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-10, atol=1e-12)
    assert not found.diagonal().any()


@pytest.mark.parametrize("scale", [1e-15, 1.0, 1e15])
def test_distances_survive_a_large_common_part_in_float32_at_any_scale(scale):
    rows = scale * draw(0, 6, 8)
    found = root(squared_distances((rows + 300 * scale).float()))
    torch.testing.assert_close(found, root(squared_distances(rows)), rtol=0, atol=1e-4 * scale)


def test_gradient_of_the_distances_is_finite_where_rows_coincide():
    rows = torch.ones(3, 4, requires_grad=True)
    root(squared_distances(rows)).sum().backward()
    assert rows.grad.isfinite().all()


def with_gradient(function, vectors, direction):
    vectors = vectors.clone().requires_grad_()
    out = function(vectors)
    out.backward(direction)
    return out.detach(), vectors.grad


def test_unit_vectors_are_torchs_bit_for_bit_but_for_the_gradient_of_a_zero():
    vectors, direction = draw(0, 5, 8, 3).float(), draw(1, 5, 8, 3).float()
    vectors[2, :, 1] = 0
    found, gradient = with_gradient(unit_vectors, vectors, direction)
    expected, theirs = with_gradient(torch.nn.functional.normalize, vectors, direction)
    assert torch.equal(found, expected)
    assert theirs[2, :, 1].abs().max() > 1e9
    theirs[2, :, 1] = 0
    assert torch.equal(gradient, theirs)


@given(exponent=st.floats(-30, 15), seed=st.integers(0, 20))
def test_a_unit_vectors_gradient_is_at_most_the_reciprocal_of_the_norm(exponent, seed):
    vectors, direction = (10**exponent * draw(seed, 4, 6)).float(), draw(seed + 50, 4, 6).float()
    _, gradient = with_gradient(unit_vectors, vectors, direction)
    bound = direction.double().norm(dim=1) / vectors.double().norm(dim=1)
    assert (gradient.double().norm(dim=1) <= bound * (1 + 1e-5)).all()


@pytest.mark.parametrize(
    "loss",
    [
        lambda ours, theirs: sp_loss(ours, theirs),
        lambda ours, theirs: kernel_loss(ours.flatten(1), theirs.flatten(1), 0.4, 2),
        lambda ours, theirs: catkd_loss(ours, theirs, normalise=True),
        lambda ours, theirs: ft_loss(ours, theirs),
        lambda ours, theirs: information_loss(ours.flatten(1), theirs.flatten(1)),
        lambda ours, theirs: pkt_loss(ours.flatten(1), theirs.flatten(1)),
    ],
    ids=["sp", "cc", "catkd", "ft", "itrd", "pkt"],
)
def test_a_sample_without_features_gets_no_gradient_out_of_proportion(loss):
    student, teacher = draw(0, 5, 3, 2, 2), draw(1, 5, 3, 2, 2)
    student[1] = 0
    student.requires_grad_()
    loss(student, teacher).backward()
    rest = student.grad[[0, 2, 3, 4]].abs().max()
    assert 0 < rest < 10
    assert student.grad[1].abs().max() <= rest


def test_channel_products_sum_over_positions():
    first, second = draw(0, 2, 3, 2, 2), draw(1, 2, 4, 2, 2)
    for b, i, j in np.ndindex(2, 3, 4):
        expected = (first[b, i].numpy() * second[b, j].numpy()).sum()
        assert channel_products(first, second)[b, i, j].item() == pytest.approx(expected)


# SP
def sp_reference(student, teacher):
    def similarity(maps):
        flat = [sample.ravel() for sample in maps]
        return [unit(np.array([a @ b for b in flat])) for a in flat]

    rows = zip(similarity(student.numpy()), similarity(teacher.numpy()), strict=True)
    return sum(((s - t) ** 2).sum() for s, t in rows) / len(student) ** 2


def test_sp_is_the_difference_of_the_normalised_similarities():
    student, teacher = draw(0, 5, 3, 4, 4), draw(1, 5, 6, 2, 2)
    assert sp_loss(student, teacher).item() == pytest.approx(sp_reference(student, teacher), rel=1e-10)


def test_sp_ignores_rotations_and_a_common_scale():
    student, teacher = draw(0, 5, 3, 2, 2), draw(1, 5, 4, 2, 2)
    turned = 7 * (teacher.flatten(1) @ orthogonal(2, 16)).view_as(teacher)
    torch.testing.assert_close(sp_loss(student, turned), sp_loss(student, teacher))
    assert sp_loss(turned, teacher).item() == pytest.approx(0, abs=1e-20)


def test_sp_compares_the_last_stages_unless_told_otherwise():
    student, teacher = student_features(), teacher_features()
    for config, pairs in (({}, [(3, 3)]), ({"stages": [[1, 2], [2, 3]]}, [(1, 2), (2, 3)])):
        method = make("sp", student, teacher, **config)
        assert [tuple(pair) for pair in method.config.stages] == pairs
        expected = sum(sp_reference(student.stages[s], teacher.stages[t]) for s, t in pairs)
        assert terms_of(method, student, teacher)["sp"].item() == pytest.approx(expected, rel=1e-9)


# CC
def cc_reference(student, teacher, gamma, order):
    def correlation(x, y):
        cosine = unit(x) @ unit(y)
        return math.exp(-2 * gamma) * sum((2 * gamma * cosine) ** p / math.factorial(p) for p in range(order + 1))

    pairs = np.ndindex(len(student), len(student))
    differences = [correlation(student[i], student[j]) - correlation(teacher[i], teacher[j]) for i, j in pairs]
    return np.mean(np.square(differences))


@pytest.mark.parametrize(("gamma", "order"), [(0.4, 2), (1.0, 3)])
def test_cc_is_the_difference_of_the_kernels_series(gamma, order):
    student, teacher = draw(0, 5, 4), draw(1, 5, 7)
    expected = cc_reference(student.numpy(), teacher.numpy(), gamma, order)
    assert kernel_loss(student, teacher, gamma, order).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("order", [20, 200])
def test_ccs_series_tends_to_the_gaussian_kernel(order):
    student, teacher, gamma = draw(0, 4, 3), draw(1, 4, 3), 0.7
    kernels = []
    for rows in (student.numpy(), teacher.numpy()):
        units = [unit(row) for row in rows]
        kernels.append(np.array([[math.exp(-gamma * ((a - b) ** 2).sum()) for b in units] for a in units]))
    expected = np.square(kernels[0] - kernels[1]).mean()
    assert kernel_loss(student, teacher, gamma, order).item() == pytest.approx(expected, rel=1e-9)


def test_adjacent_cc_multiplies_neighbouring_differences():
    student, teacher = draw(0, 4, 3), draw(1, 4, 3)
    difference = np.abs((student - teacher).numpy())
    expected = np.mean([difference[k] @ difference[k + 1] for k in range(3)])
    assert adjacent_loss(student, teacher).item() == pytest.approx(expected)


def test_cc_takes_either_form():
    student, teacher = student_features(), teacher_features()
    method = make("cc", student, teacher, gamma=0.6, order=3)
    assert not list(method.parameters())
    expected = cc_reference(student.embedding.numpy(), teacher.embedding.numpy(), 0.6, 3)
    assert terms_of(method, student, teacher)["cc"].item() == pytest.approx(expected, rel=1e-9)

    method = make("cc", student, teacher, form="adjacent")
    embedded = [
        embedding.numpy() @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        for embedding, layer in (
            (student.embedding, method.embed_student),
            (teacher.embedding, method.embed_teacher),
        )
    ]
    difference = np.abs(embedded[0] - embedded[1])
    expected = np.mean([difference[k] @ difference[k + 1] for k in range(len(difference) - 1)])
    assert terms_of(method, student, teacher)["cc"].item() == pytest.approx(expected, rel=1e-9)


# RKD
def distance_reference(student, teacher):
    def relative(rows):
        n = len(rows)
        distances = np.array([[np.sqrt(((a - b) ** 2).sum()) for b in rows] for a in rows])
        return distances / np.mean([distances[i, j] for i in range(n) for j in range(n) if i != j])

    difference = relative(student) - relative(teacher)
    return np.mean([huber(each) for each in difference.ravel()])


def angle_reference(student, teacher):
    def cosine(rows, i, j, k):
        if i in (j, k):
            return 0.0
        return unit(rows[j] - rows[i]) @ unit(rows[k] - rows[i])

    triplets = np.ndindex(len(student), len(student), len(student))
    return np.mean([huber(cosine(student, *each) - cosine(teacher, *each)) for each in triplets])


def test_rkd_compares_relative_distances_and_angles():
    student, teacher = draw(0, 5, 3), draw(1, 5, 7)
    expected = distance_reference(student.numpy(), teacher.numpy())
    assert distance_loss(student, teacher).item() == pytest.approx(expected, rel=1e-9)
    expected = angle_reference(student.numpy(), teacher.numpy())
    assert angle_loss(student, teacher).item() == pytest.approx(expected, rel=1e-9)


@given(seed=st.integers(0, 50), scale=st.floats(1e-9, 1e9), shift=st.floats(-10, 10))
def test_rkd_ignores_rotation_translation_and_scale(seed, scale, shift):
    student, teacher = draw(seed, 5, 4), draw(seed + 99, 5, 4)
    moved = scale * (student @ orthogonal(seed, 4) + shift)
    for loss in (distance_loss, angle_loss):
        torch.testing.assert_close(loss(moved, teacher), loss(student, teacher), rtol=1e-6, atol=1e-9)
        assert loss(moved, student).item() == pytest.approx(0, abs=1e-12)


def test_rkd_in_float32_is_near_its_float64():
    """Angles of products cancel more than angles of differences would."""
    student, teacher = draw(0, 16, 64) + 5, draw(1, 16, 64) + 5
    exact = angle_loss(student, teacher)
    assert angle_loss(student.float(), teacher.float()).item() == pytest.approx(exact.item(), rel=1e-4)


@pytest.mark.parametrize("apart", [1e-1, 1e-2, 1e-3, 1e-4, 1e-5])
def test_rkd_in_float32_survives_samples_that_are_near(apart):
    """The gradient grows as they near each other, by their distance and not by rounding."""
    student, teacher = (draw(seed, 32, 128).float() for seed in (0, 1))
    student[1] = student[0] + apart * draw(2, 128).float()
    gradients = []
    for rows in (student, student.double()):
        rows.requires_grad_()
        loss = angle_by_differences(rows, teacher) if rows.dtype == torch.float64 else angle_loss(rows, teacher)
        assert loss.dtype == rows.dtype
        gradients.append((loss.item(), *torch.autograd.grad(loss, rows)))
    (ours, gradient), (expected, exact) = gradients
    assert ours == pytest.approx(expected, rel=1e-5)
    assert (gradient - exact).norm() < 1e-4 * exact.norm()


def angle_by_differences(student, teacher):
    """From the difference of every pair of rows, in float64."""
    cosines = []
    for rows in (student.double(), teacher.double()):
        differences = torch.nn.functional.normalize(rows[None] - rows[:, None], dim=2)
        cosines.append(differences @ differences.transpose(1, 2))
    return torch.nn.functional.smooth_l1_loss(*cosines)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_coincides_has_no_angle_and_no_gradient(dtype):
    student, teacher = draw(0, 16, 64).to(dtype), draw(1, 16, 64).to(dtype)
    student[1] = student[0]
    student.requires_grad_()
    assert not angles(student)[0, 1].any()
    (distance_loss(student, teacher) + angle_loss(student, teacher)).backward()
    assert student.grad.abs().max() < 0.01


@pytest.mark.parametrize("loss", [distance_loss, angle_loss, adjacent_loss])
@pytest.mark.parametrize("rows", [draw(0, 1, 3), torch.ones(4, 3)], ids=["one sample", "all alike"])
def test_where_there_is_no_relation_there_is_no_gradient(loss, rows):
    student = rows.clone().requires_grad_()
    value = loss(student, rows)
    value.backward()
    assert value == 0
    assert not student.grad.any()


def test_rkds_terms_are_of_the_embeddings():
    student, teacher = student_features(), teacher_features()
    terms = terms_of(make("rkd", student, teacher), student, teacher)
    embeddings = student.embedding.numpy(), teacher.embedding.numpy()
    assert terms["distance"].item() == pytest.approx(distance_reference(*embeddings), rel=1e-8)
    assert terms["angle"].item() == pytest.approx(angle_reference(*embeddings), rel=1e-8)


# PKT
def pkt_reference(student, teacher, eps=1e-7):
    def probabilities(rows):
        similarity = np.array([[(unit(a) @ unit(b) + 1) / 2 for b in rows] for a in rows])
        return similarity / similarity.sum(axis=1, keepdims=True)

    q, p = probabilities(student), probabilities(teacher)
    pairs = np.ndindex(p.shape)
    return np.mean([p[i, j] * np.log((p[i, j] + eps) / (q[i, j] + eps)) for i, j in pairs])


def test_pkt_is_the_mean_divergence_of_neighbourhoods():
    student, teacher = student_features(), teacher_features()
    expected = pkt_reference(student.embedding.numpy(), teacher.embedding.numpy())
    assert pkt_loss(student.embedding, teacher.embedding).item() == pytest.approx(expected, rel=1e-6)
    assert terms_of(make("pkt", student, teacher), student, teacher)["pkt"].item() == pytest.approx(
        expected, rel=1e-6
    )


def test_pkt_ignores_each_samples_scale_and_rotations():
    student, teacher = draw(0, 5, 4), draw(1, 5, 4)
    changed = torch.rand(5, 1, dtype=torch.float64) * student @ orthogonal(3, 4)
    torch.testing.assert_close(pkt_loss(changed, teacher), pkt_loss(student, teacher), rtol=1e-6, atol=1e-10)
    assert pkt_loss(changed, student).item() == pytest.approx(0, abs=1e-10)


def test_pkt_stays_finite_for_opposite_and_zero_embeddings():
    student = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]], requires_grad=True)
    loss = pkt_loss(student, random_features(embedding=3, dtype=torch.float32).embedding[:3])
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()
