"""SSKD's similarities and its choice among a teacher's predictions, against their definitions in NumPy."""

import numpy as np
import pytest
import torch
from helpers import labels_of, make, random_logits, softmax, student_features, teacher_features, terms_of
from hypothesis import given
from hypothesis import strategies as st

from methods.sskd import ranked_loss, similarities, taken

TURNS = 4
B = 2  # upright images


@pytest.fixture
def features():
    return student_features(batch=TURNS * B), teacher_features(batch=TURNS * B)


def perceptron(head, rows):
    first, last = (tuple(each.detach().numpy() for each in layer.parameters()) for layer in (head[0], head[2]))
    hidden = np.maximum(rows @ first[0].T + first[1], 0)
    return hidden @ last[0].T + last[1]


def cosines(head, embedding):
    """Of each turned image, view by view, and each upright one."""
    rows = perceptron(head, embedding.numpy())
    return np.array([[a @ b / np.sqrt(a @ a * (b @ b)) for b in rows[:B]] for a in rows[B:]])


def chosen_reference(scores, true, part):
    """As the authors' code does it: by rank, the right ones and so many of the wrong ones."""
    ranks = [int((row > row[column]).sum()) for row, column in zip(scores, true, strict=True)]
    num_wrong = sum(rank > 0 for rank in ranks)
    order = sorted(range(len(ranks)), key=lambda row: ranks[row])
    return set(order[: len(ranks) - num_wrong + int(num_wrong * part)])


def loss_reference(student, teacher, true, part, temperature):
    ours, theirs = softmax(student / temperature), softmax(teacher / temperature)
    chosen = chosen_reference(teacher, true, part)
    total = sum((theirs[row] * np.log(theirs[row] / ours[row])).sum() for row in chosen)
    return temperature**2 * total / max(len(chosen), 1)


@pytest.mark.parametrize(("ss_wrong", "tf_wrong"), [(0.75, 1.0), (0.0, 0.0), (0.4, 0.5)])
def test_its_terms_are_those_of_the_authors_code(features, ss_wrong, tf_wrong):
    student, teacher = features
    method = make("sskd", student, teacher, ss_wrong=ss_wrong, tf_wrong=tf_wrong)
    terms = terms_of(method, student, teacher)
    ours, theirs = student.logits.numpy(), teacher.logits.numpy()
    labels = labels_of(teacher)[0].numpy()
    everything = 1.0  # KD is of all upright images
    assert terms["kd"].item() == pytest.approx(
        loss_reference(ours[:B], theirs[:B], labels[:B], everything, 4.0), rel=1e-9
    )
    assert terms["tf"].item() == pytest.approx(
        loss_reference(ours[B:], theirs[B:], labels[B:], tf_wrong, 4.0), rel=1e-9
    )
    found, known = cosines(method.head_student, student.embedding), cosines(method.head_teacher, teacher.embedding)
    images = np.tile(np.arange(B), TURNS - 1)
    assert terms["ss"].item() == pytest.approx(loss_reference(found, known, images, ss_wrong, 0.5), rel=1e-9)


def test_the_teachers_head_learns_to_find_the_image_that_was_turned(features):
    student, teacher = features
    method = make("sskd", student, teacher)
    known = cosines(method.head_teacher, teacher.embedding)
    images = np.tile(np.arange(B), TURNS - 1)
    expected = -np.log(softmax(known)[np.arange(len(known)), images]).mean()
    assert method.pretrain(None, teacher, *labels_of(teacher))["find"].item() == pytest.approx(expected, rel=1e-9)
    optimizer = torch.optim.SGD(method.head_teacher.parameters(), lr=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        method.pretrain(None, teacher, *labels_of(teacher))["find"].backward()
        optimizer.step()
    right = similarities(method.head_teacher(teacher.embedding)).argmax(dim=1)
    assert right.tolist() == images.tolist()


def test_the_teachers_head_is_at_rest_in_the_main_training(features):
    student, teacher = features
    method = make("sskd", student, teacher)
    sum(terms_of(method, student, teacher).values()).backward()
    assert all(parameter.grad is None for parameter in method.head_teacher.parameters())
    assert all(parameter.grad.any() for parameter in method.head_student.parameters() if parameter.ndim > 1)


@given(st.integers(0, 500), st.floats(0, 1), st.integers(1, 30), st.integers(2, 6))
def test_all_right_predictions_are_taken_and_of_the_others_the_best(seed, part, rows, columns):
    scores = random_logits(seed, rows, columns)
    true = torch.randint(columns, (rows,), generator=torch.Generator().manual_seed(seed))
    chosen = taken(scores, true, part)
    assert set(chosen.nonzero().flatten().tolist()) == chosen_reference(scores.numpy(), true.numpy(), part)
    right = scores.argmax(dim=1) == true
    assert chosen[right].all()
    assert (chosen & ~right).sum() == int(part * (~right).sum().item())


def test_nothing_is_learned_where_the_teacher_is_always_wrong_and_none_of_that_is_taken():
    student, teacher = random_logits(0, 6, 3).requires_grad_(), random_logits(1, 6, 3)
    loss = ranked_loss(student, teacher, teacher.argmin(dim=1), 0.0, 4.0)
    loss.backward()
    assert loss == 0
    assert not student.grad.any()


@pytest.mark.parametrize(
    ("weights", "views", "turned"),
    [({}, 4, True), ({"ss": 0.0}, 4, True), ({"tf": 0.0}, 4, True), ({"ss": 0.0, "tf": 0.0}, 1, False)],
)
def test_without_weight_on_turned_images_none_are_wanted(features, weights, views, turned):
    method = make("sskd", *features, weights=weights)
    assert (method.num_views, method.turned) == (views, turned)
    assert (method.pretraining is None) == ("ss" in weights)
