"""KDSVD against NumPy's singular value decomposition and loops over the vectors' entries."""

import itertools

import numpy as np
import pytest
import torch
from helpers import draw, make, student_features, teacher_features, terms_of

from methods import InvalidSetting
from methods.kdsvd import SQUARINGS, SQUARINGS_OF_MORE, align, right_singular_vectors


def with_spectrum(values, rows, columns, batch=2, seed=0):
    """Matrices `[B, rows, columns]` with these singular values."""
    left, right = (torch.linalg.qr(draw(seed + k, batch, n, len(values)))[0] for k, n in enumerate((rows, columns)))
    return left * torch.tensor(values, dtype=torch.float64) @ right.transpose(1, 2)


def largest_entry_positive(vector):
    return vector * np.sign(vector[np.abs(vector).argmax()])


@pytest.mark.parametrize(("rows", "columns"), [(12, 5), (5, 12), (6, 6)])
@pytest.mark.parametrize("values", [[3.0, 2.0, 1.0, 0.5, 0.1], [1.0, 0.9, 0.8, 0.1, 0.01]], ids=["apart", "near"])
def test_vectors_are_those_of_the_decomposition(rows, columns, values):
    matrix = with_spectrum(values, rows, columns)
    found = right_singular_vectors(matrix, 3, SQUARINGS_OF_MORE).numpy()
    for sample, vectors in zip(matrix.numpy(), found, strict=True):
        _, _, right = np.linalg.svd(sample)
        for k in range(3):
            expected = largest_entry_positive(right[k])
            assert abs(vectors[:, k] @ expected) == pytest.approx(1, abs=1e-9)
            if columns <= rows:  # else the sign is that of the left vectors'
                np.testing.assert_allclose(vectors[:, k], expected, atol=1e-6)


def test_float32_finds_the_same_vectors():
    matrix = with_spectrum([3.0, 2.0, 1.0, 0.5], 12, 6)
    exact, rounded = (right_singular_vectors(x, 4, SQUARINGS_OF_MORE) for x in (matrix, matrix.float()))
    torch.testing.assert_close(rounded.double(), exact, rtol=1e-4, atol=1e-4)


def test_gradient_of_the_first_vector_is_the_decompositions():
    matrix = with_spectrum([3.0, 1.5, 1.0, 0.5], 8, 5).requires_grad_()
    probe = draw(9, 2, 5, 1)
    right_singular_vectors(matrix, 1, SQUARINGS).mul(probe).sum().backward()
    ours, matrix.grad = matrix.grad.clone(), None
    vector = torch.linalg.svd(matrix, full_matrices=False)[2][:, :1].transpose(1, 2)
    largest = vector.abs().argmax(dim=1, keepdim=True)
    (vector * vector.gather(1, largest).sign().detach() * probe).sum().backward()
    torch.testing.assert_close(ours, matrix.grad, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("matrix", [torch.zeros(2, 5, 3), torch.ones(2, 5, 3)], ids=["zero", "rank one"])
def test_an_exhausted_matrix_gives_no_more_vectors(matrix):
    matrix = matrix.clone().requires_grad_()
    vectors = right_singular_vectors(matrix, 3, SQUARINGS_OF_MORE)
    vectors.sum().backward()
    rank = int(matrix.any())
    assert not vectors[:, :, rank:].any()
    assert vectors[:, :, :rank].norm(dim=1).allclose(torch.tensor(1.0))
    assert matrix.grad.isfinite().all()


def test_align_takes_the_most_collinear_with_its_sign():
    teacher = torch.tensor([[[0.0], [1.0], [0.0]]])
    student = torch.tensor([[[1.0, 0.0, 0.6], [0.0, -1.0, 0.8], [0.0, 0.0, 0.0]]])
    assert torch.equal(align(student, teacher), torch.tensor([[[0.0], [1.0], [0.0]]]))
    none = torch.zeros(1, 3, 1)  # of an exhausted matrix
    assert torch.equal(align(student, none), none)
    assert torch.equal(align(none, teacher), none)


def vectors_reference(maps, columns, count):
    """The leading right singular vectors of each sample's matrix, `[B, M, count]`, and values, `[B, 1, count]`."""
    _, channels, height, width = maps.shape
    vectors, values = [], []
    for sample in maps:
        matrix = sample.reshape(channels * height, width) if columns else sample.reshape(channels, -1).T
        _, singular, right = np.linalg.svd(matrix, full_matrices=False)
        vectors.append(np.stack([largest_entry_positive(vector) for vector in right[:count]], axis=1))
        values.append(singular[None, :count])
    return np.array(vectors), np.array(values)


def aligned_reference(student, teacher):
    out = np.empty_like(teacher)
    for b, k in np.ndindex(len(teacher), teacher.shape[2]):
        cosines = [student[b, :, j] @ teacher[b, :, k] for j in range(student.shape[2])]
        best = int(np.abs(cosines).argmax())
        out[b, :, k] = np.sign(cosines[best]) * student[b, :, best]
    return out


def loss_reference(student, teacher, columns, count=1):
    pairs = []
    for s, t in zip(student, teacher, strict=True):
        theirs, values = vectors_reference(t, columns, count)
        ours = aligned_reference(vectors_reference(s, columns, count + 3)[0], theirs)
        weights = values / np.sqrt((values**2).sum(axis=2, keepdims=True))
        pairs.append((ours * weights, theirs * weights))
    total = 0.0
    for (s, t), (s_next, t_next) in itertools.pairwise(pairs):
        for b, i, j, k in np.ndindex(len(s), s.shape[1], s_next.shape[1], count):
            ours = np.exp(-((s[b, i, k] - s_next[b, j, k]) ** 2) / 8)
            theirs = np.exp(-((t[b, i, k] - t_next[b, j, k]) ** 2) / 8)
            total += (ours - theirs) ** 2
    return total / len(student[0])


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("vectors", [1, 2])
def test_is_the_difference_of_adjacent_stages_relations(columns, vectors):
    """With maps of clearly separated singular values, on which every algorithm agrees."""
    student, teacher = student_features(), teacher_features(channels=(3, 4, 6, 5))
    for who, features in enumerate((student, teacher)):
        for k, stage in enumerate(features.stages[1:]):
            batch, channels, side, _ = stage.shape
            shape = (channels * side, side) if columns else (side * side, channels)
            spectrum = [0.5**each for each in range(min(shape))]
            matrix = with_spectrum(spectrum, *shape, batch=batch, seed=100 * who + 10 * k)
            stage.copy_(matrix.view_as(stage) if columns else matrix.transpose(1, 2).reshape(stage.shape))
    stages = [[each.numpy() for each in features.stages[1:]] for features in (student, teacher)]
    method = make("kdsvd", student, teacher, matrix="columns" if columns else "channels", vectors=vectors)
    expected = loss_reference(*stages, columns, vectors)
    assert expected > 0.01
    assert terms_of(method, student, teacher)["kdsvd"].item() == pytest.approx(expected, rel=1e-4)


def test_is_zero_for_equal_maps():
    features = teacher_features(channels=(3, 4, 6, 5))
    method = make("kdsvd", student_features(), features)
    assert terms_of(method, features, features)["kdsvd"].item() == pytest.approx(0, abs=1e-20)


def test_stages_of_unequal_width_are_refused_with_the_way_out():
    with pytest.raises(InvalidSetting, match=r"4 and 5, 6 and 7, 5 and 8 channels; matrix=columns"):
        make("kdsvd", student_features(), teacher_features())
