"""AFT-KD's blocks and distance against a NumPy reference, its running means, floor and block sizes."""

import contextlib
import dataclasses
import itertools

import numpy as np
import pytest
import torch
from helpers import (
    block_mean,
    connected,
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

from methods import Features, FeatureSpec, InvalidSetting, configure
from methods.aftkd import RunningMean, channel_attention, spatial_attention

STAGES = (1, 2, 3)
GRIDS = {8: 4, 4: 2}  # of the default block sizes


# The reference: one function for each formula.
def spatial(x, p):
    energy = (np.abs(x) ** p).mean(axis=1, keepdims=True)
    return energy / energy.mean(axis=(2, 3), keepdims=True)


def channel(x, p):
    energy = (np.abs(x) ** p).mean(axis=(2, 3), keepdims=True)
    return energy / energy.mean(axis=1, keepdims=True)


def afb(raw, mapped, grid, content="both", attention="both", degree=0.5, p=1.0):
    """The parts to be compared, as `[B, D]` each."""
    batch = len(raw)
    if content == "attention":
        parts = {"spatial": block_mean(spatial(raw, p), grid), "channel": channel(mapped, p)}
        chosen = parts if attention == "both" else [attention]
        return [parts[name].reshape(batch, -1) for name in chosen]
    if content == "features":
        degree = 0
    block = mapped
    if attention in ("both", "spatial"):
        block = block * ((1 - degree) + degree * spatial(raw, p))
    if attention in ("both", "channel"):
        block = block * ((1 - degree) + degree * channel(mapped, p))
    return [block_mean(block, grid).reshape(batch, -1)]


def normalise(x):
    return x / np.sqrt((x**2).sum(axis=1, keepdims=True))


def stage_parts(method, student, teacher, k, **settings):
    """AFBs of both sides for stage k, `[(student, teacher), ...]`."""
    ours, theirs = student.stages[k].numpy(), teacher.stages[k].numpy()
    grid = GRIDS[min(ours.shape[-1], theirs.shape[-1])]
    transfer = method.transfers[STAGES.index(k)]
    only_spatial = settings.get("content") == "attention" and settings.get("attention") == "spatial"
    mapped = ours if only_spatial else connected(transfer.connector, ours)
    parts_student = afb(ours, mapped, grid, **settings)
    return list(zip(parts_student, afb(theirs, theirs, grid, **settings), strict=True))


def afb_reference(method, student, teacher, *, means=None, **settings):
    """The term; `means` are subtracted, by stage and part (default: no centring)."""
    total = 0.0
    for k in STAGES:
        for part, (ours, theirs) in enumerate(stage_parts(method, student, teacher, k, **settings)):
            mean = 0.0 if means is None else means[k, part]
            difference = normalise(ours - mean) - normalise(theirs - mean)
            total += (difference**2).sum(axis=1).mean()
    return total


def batch_means(method, student, teacher, **settings):
    return {
        (k, part): theirs.mean(axis=0)
        for k in STAGES
        for part, (_, theirs) in enumerate(stage_parts(method, student, teacher, k, **settings))
    }


def variants():
    attention, p = ("both", "spatial", "channel"), (0.5, 1.0, 2.0)
    for a, d, exponent in itertools.product(attention, (0.3, 0.5, 1.0), p):
        yield {"content": "both", "attention": a, "degree": d, "p": exponent}
    for a, exponent in itertools.product(attention, p):
        yield {"content": "attention", "attention": a, "p": exponent}
    yield {"content": "features"}
    yield {"content": "both", "degree": 0.0}


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("settings", list(variants()), ids=lambda each: "-".join(map(str, each.values())))
def test_matches_the_definition(settings, center):
    """Stages of sides 8, 4 and 4 against 8, 8 and 4: both resolutions meet on the smaller one's blocks."""
    student, teacher = student_features(), teacher_features(sides=(8, 8, 8, 4))
    method = make("aftkd", student, teacher, center=center, **settings)
    randomise(method)
    means = batch_means(method, student, teacher, **settings) if center else None
    expected = afb_reference(method, student, teacher, means=means, **settings)
    assert terms_of(method, student, teacher)["afb"].item() == pytest.approx(expected, rel=1e-7)


def test_a_signed_pair_matches_too():
    student = student_features(signed=True)
    teacher = teacher_features(signed=True)
    method = make("aftkd", student, teacher, p=2.0, center=False)
    expected = afb_reference(method, student, teacher, p=2.0)
    assert terms_of(method, student, teacher)["afb"].item() == pytest.approx(expected, rel=1e-7)


def test_a_larger_student_map_is_pooled_too():
    student, teacher = student_features(sides=(8, 8, 8, 4)), teacher_features()
    method = make("aftkd", student, teacher, center=False)
    expected = afb_reference(method, student, teacher)
    assert terms_of(method, student, teacher)["afb"].item() == pytest.approx(expected, rel=1e-7)


def test_degree_zero_is_features_alone():
    student, teacher = student_features(), teacher_features()
    losses = [
        terms_of(make("aftkd", student, teacher, **settings), student, teacher)["afb"]
        for settings in ({"degree": 0.0}, {"content": "features"}, {})
    ]
    torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=0)
    assert losses[2] != losses[1]


def test_spatial_attention_alone_reads_the_raw_map_and_learns_no_connector():
    method = make("aftkd", student_features(), teacher_features(), content="attention", attention="spatial")
    assert not list(method.parameters())


@pytest.mark.parametrize(
    ("attention", "shown"),
    [("both", {"afb/1", "afb/2", "afb/3"}), ("spatial", {"afb/1", "afb/2", "afb/3"}), ("channel", set())],
)
def test_what_has_blocks_is_shown(attention, shown):
    student, teacher = student_features(), teacher_features()
    method = make("aftkd", student, teacher, content="attention", attention=attention).eval()
    exhibits = method.exhibits(student, teacher)
    assert set(exhibits) == shown
    assert all(maps.shape[1:] in ((1, 4, 4), (1, 2, 2)) for pair in exhibits.values() for maps in pair)


@given(seed=st.integers(0, 50), p=st.sampled_from([0.5, 1.0, 2.0]), scale=st.floats(1e-2, 1e2))
def test_attention_averages_one_whatever_the_scale(seed, p, scale):
    feature = random_features((4,), (6,), seed=seed, signed=True).stages[0]
    for attention in (spatial_attention, channel_attention):
        result = attention(feature, p)
        mean = result.mean(dim=(1, 2, 3))
        torch.testing.assert_close(mean, torch.ones_like(mean))
        torch.testing.assert_close(attention(scale * feature, p), result)


def test_uncentred_blocks_ignore_the_scale_of_the_teachers_maps():
    student, teacher = student_features(), teacher_features()
    scaled = Features(tuple(30 * x for x in teacher.stages), (), teacher.embedding, teacher.logits)
    losses = [
        terms_of(make("aftkd", student, teacher, center=False), student, each)["afb"] for each in (teacher, scaled)
    ]
    torch.testing.assert_close(*losses, rtol=1e-6, atol=0)


@pytest.mark.parametrize("p", [0.5, 1.0, 2.0])
def test_gradient_is_finite_where_a_rectified_map_is_zero(p):
    """Over the whole range of exponents that a study may try."""
    student, teacher = with_grad(student_features()), teacher_features()
    with torch.no_grad():
        student.stages[1][0, :, 0, 0] = 0  # a position and
        student.stages[2][:, 0] = 0  # a channel that are silent
    terms_of(make("aftkd", student, teacher, p=p), student, teacher)["afb"].backward()
    assert all(stage.grad.isfinite().all() for stage in student.stages[1:])


# Centring
def test_running_mean_is_the_plain_mean_at_first_and_then_forgets():
    batches = np.random.default_rng(0).normal(size=(150, 4, 3))
    running = RunningMean(3).double()
    expected = np.zeros(3)
    for n, batch in enumerate(batches, start=1):
        running.update(torch.from_numpy(batch))
        expected += max(1 / n, 0.01) * (batch.mean(axis=0) - expected)
        if n == 100:
            np.testing.assert_allclose(expected, batches[:100].mean(axis=(0, 1)), atol=1e-12)
    np.testing.assert_allclose(running.mean.numpy(), expected, atol=1e-9)
    assert not list(running.parameters())


def test_centring_uses_the_mean_of_all_teacher_batches_so_far():
    method = make("aftkd", student_features(), teacher_features())
    sums = {}
    for step in range(3):
        student, teacher = student_features(seed=10 + step), teacher_features(seed=20 + step)
        for key, mean in batch_means(method, student, teacher).items():
            sums[key] = sums.get(key, 0) + mean
        means = {key: total / (step + 1) for key, total in sums.items()}
        expected = afb_reference(method, student, teacher, means=means)
        assert terms_of(method, student, teacher)["afb"].item() == pytest.approx(expected, rel=1e-7)


def test_the_means_rest_in_evaluation():
    method = make("aftkd", student_features(), teacher_features())
    terms_of(method, student_features(), teacher_features())
    before = {key: value.clone() for key, value in method.named_buffers()}
    method.eval()
    terms_of(method, student_features(), teacher_features(seed=5))
    assert all(torch.equal(value, before[key]) for key, value in method.named_buffers())


# The floor
def constant_student_losses(center):
    """A method with one stage of one block, its floor, and the losses of constant student outputs."""
    student, teacher = (random_features((2, c), (4, 4), seed=c, batch=6) for c in (3, 5))
    ones = tuple(torch.ones_like(x) for x in student.stages)
    student = Features(ones, (), student.embedding, student.logits)
    method = make("aftkd", student, teacher, content="features", block_size=[4], center=center)
    transfer = method.transfers[0]
    terms_of(method, student, teacher)
    method.eval()  # the running means are now those of this batch, and stay
    convolution, norm = transfer.connector
    vectors = teacher.stages[1].mean(dim=(2, 3))
    offset = vectors.mean(dim=0) if center else torch.zeros(5, dtype=torch.float64)
    best = torch.nn.functional.normalize(vectors - offset, dim=1).mean(dim=0) + offset
    generator = torch.Generator().manual_seed(0)
    losses = []
    for constant in (best, *torch.randn(50, 5, generator=generator, dtype=torch.float64)):
        with torch.no_grad():
            convolution.weight.zero_()
            norm.weight.zero_()
            norm.bias.copy_(constant)
        losses.append(terms_of(method, student, teacher)["afb"].item())
    return method, losses


@pytest.mark.parametrize("center", [True, False])
def test_a_constant_student_output_reaches_the_floor_and_no_lower(center):
    method, (best, *others) = constant_student_losses(center)
    figures = method.diagnostics({"afb": best})
    assert figures["afb_floor"] == pytest.approx(best, rel=1e-6)
    assert figures["afb_relative"] == pytest.approx(1, rel=1e-6)
    assert min(others) > best - 1e-6


def test_the_floor_of_attention_and_features_sums_the_stages():
    student, teacher = student_features(), teacher_features()
    method = make("aftkd", student, teacher, center=False, content="attention")
    terms = {name: term.item() for name, term in terms_of(method, student, teacher).items()}
    expected = 0.0
    for k in STAGES:
        for _, theirs in stage_parts(method, student, teacher, k, content="attention"):
            expected += 2 - 2 * np.linalg.norm(normalise(theirs).mean(axis=0))
    figures = method.diagnostics(terms)
    assert figures["afb_floor"] == pytest.approx(expected, rel=1e-6)
    assert figures["afb_relative"] == pytest.approx(terms["afb"] / expected, rel=1e-6)


def test_diagnostics_survive_a_floor_of_zero():
    """All samples alike: the floor is 0, which must not end a run."""
    student, teacher = student_features(), teacher_features()
    alike = Features(tuple(torch.ones_like(x) for x in teacher.stages), (), teacher.embedding, teacher.logits)
    method = make("aftkd", student, alike, content="attention", attention="spatial", center=False)
    terms = {name: term.item() for name, term in terms_of(method, student, alike).items()}
    assert method.diagnostics(terms)["afb_floor"] == pytest.approx(0, abs=1e-6)


def test_a_single_block_of_spatial_attention_alone_is_refused():
    """It averages 1 by construction, so the term would be 0 for every student."""
    with pytest.raises(InvalidSetting, match="block_size"):
        make(
            "aftkd",
            student_features(),
            teacher_features(),
            content="attention",
            attention="spatial",
            block_size=[8, 4, 4],
        )


# Blocks
def spec_of_sides(sides):
    return FeatureSpec.of(random_features((2,) * len(sides), sides, batch=1))


def test_default_blocks_are_those_of_the_design():
    spec = spec_of_sides((32, 16, 8, 4, 4))
    assert configure("aftkd").resolve(spec, spec).block_size == [4, 2, 2, 2]  # grids 4, 4, 2, 2


@given(student=st.integers(1, 32), teacher=st.integers(1, 32))
def test_default_blocks_always_work(student, teacher):
    config = configure("aftkd").resolve(spec_of_sides((2, student)), spec_of_sides((2, teacher)))
    grid = min(student, teacher) // config.block_size[0]
    assert student % grid == 0
    assert teacher % grid == 0


@pytest.mark.parametrize("block_size", [[2, 2], [3, 2, 2], [0, 2, 2], [16, 2, 2], [-2, 2, 2]])
def test_refuses_blocks_that_do_not_tile_the_maps(block_size):
    with pytest.raises(InvalidSetting, match="block_size"):
        make("aftkd", student_features(), teacher_features(), block_size=block_size)


@pytest.mark.parametrize("block_size", [[1, 1, 1], [8, 4, 4]])
def test_any_divisor_of_the_smaller_map_will_do(block_size, monkeypatch):
    student, teacher = student_features(), teacher_features(sides=(8, 8, 8, 4))
    method = make("aftkd", student, teacher, block_size=block_size, center=False)
    for side, size in zip((8, 4, 4), block_size, strict=True):
        monkeypatch.setitem(GRIDS, side, side // size)
    expected = afb_reference(method, student, teacher)
    assert terms_of(method, student, teacher)["afb"].item() == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(("student", "teacher"), [((8, 4), (8, 8)), ((6, 4), (4, 6)), ((8, 4), (4, 8))])
def test_studies_are_offered_exactly_the_block_sizes_that_are_accepted(student, teacher):
    specs = (spec_of_sides((2, *student)), spec_of_sides((2, *teacher)))
    config = configure("aftkd").resolve(*specs)
    (field,) = [field for field in dataclasses.fields(config) if field.name == "block_size"]
    for k, search in enumerate(field.metadata["search"].of(config, *specs)):
        for size in range(1, 9):
            sizes = [*config.block_size[:k], size, *config.block_size[k + 1 :]]
            with contextlib.nullcontext() if size in search.choices else pytest.raises(InvalidSetting):
                dataclasses.replace(config, block_size=sizes).resolve(*specs)
