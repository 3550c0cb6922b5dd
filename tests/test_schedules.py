"""Schedules of the loss weights, the adaptive one against a simulation over the whole history of losses."""

import dataclasses
import io
import math

import numpy as np
import pytest
import torch
from helpers import make, student_features, teacher_features

from methods import InvalidSetting, dead_settings, get
from methods.schedules import LossConfig, LossWeights

TERMS = ("ce", "kd", "afb")


def method_of(name="aftkd", **config):
    return make(name, student_features(), teacher_features(), **config).config


def weights_of(num_steps, terms=TERMS, **config):
    return LossWeights(LossConfig(**config).resolve(method_of()), terms, num_steps)


def factors_of(weights, losses):
    """The factors at every step of a training with these losses, `[steps, K]`."""
    history = []
    for step, terms in enumerate(losses):
        weights.advance(step)
        history.append(weights.factors.numpy().copy())
        weights.observe(torch.tensor(terms, dtype=torch.float32))
    return np.array(history)


def decaying(num_steps, rates=(0.5, 1.5, 6.0), seed=0):
    """Noisy losses `[steps, K]` that fall at different speeds."""
    progress = np.arange(num_steps)[:, None] / num_steps
    noise = 1 + 0.1 * np.random.default_rng(seed).random((num_steps, len(rates)))
    return np.array([2.0, 5.0, 0.7])[: len(rates)] * np.exp(-np.array(rates) * progress) * noise


# Ramps
def test_fixed_never_moves():
    np.testing.assert_array_equal(factors_of(weights_of(30, schedule="fixed"), decaying(30)), 1)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize(("start", "end"), [(1.0, 0.0), (0.2, 1.6)])
def test_ramps_meet_their_ends_and_leave_ce_alone(schedule, start, end):
    num_steps = 41
    factors = factors_of(weights_of(num_steps, schedule=schedule, start=start, end=end), decaying(num_steps))
    progress = np.arange(num_steps) / (num_steps - 1)
    if schedule == "cosine":
        progress = 0.5 - 0.5 * np.cos(np.pi * progress)
    np.testing.assert_array_equal(factors[:, 0], 1)
    for term in (1, 2):
        np.testing.assert_allclose(factors[:, term], start + (end - start) * progress, rtol=1e-5, atol=1e-6)
    assert factors[0, 1] == pytest.approx(start)
    assert factors[-1, 1] == pytest.approx(end, abs=1e-6)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_ramp_of_one_step_is_its_start(schedule):
    weights = weights_of(1, schedule=schedule, start=0.5)
    weights.advance(0)
    np.testing.assert_allclose(weights.factors.numpy(), [1, 0.5, 0.5])


# Warm-up
def test_distillation_terms_rise_linearly_from_the_start():
    factors = factors_of(weights_of(40, schedule="fixed", warm_up=0.25), decaying(40))
    expected = np.minimum((np.arange(40) + 1) / 10, 1)
    np.testing.assert_array_equal(factors[:, 0], 1)
    for term in (1, 2):
        np.testing.assert_allclose(factors[:, term], expected, rtol=1e-6)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "adaptive"])
@pytest.mark.parametrize("warm_up", [0.3, 1.0])
def test_the_warm_up_multiplies_the_schedule(schedule, warm_up):
    config = {"schedule": schedule} | ({"windows": 6} if schedule == "adaptive" else {})
    losses = decaying(60)
    plain = factors_of(weights_of(60, **config), losses)
    warmed = factors_of(weights_of(60, warm_up=warm_up, **config), losses)
    expected = np.minimum((np.arange(60) + 1) / (60 * warm_up), 1)
    np.testing.assert_allclose(warmed[:, 0], plain[:, 0], rtol=1e-6)
    np.testing.assert_allclose(warmed[:, 1:], plain[:, 1:] * expected[:, None], rtol=1e-5)


# Adaptive
def simulate(losses, *, windows, rate="previous", temperature=0.1, smoothing=0.5, floor=0.2):
    """Factors at every step, each computed afresh from the losses so far."""
    num_steps, num_terms = losses.shape
    size = round(num_steps / windows)

    def mean(window):
        return losses[window * size : (window + 1) * size].mean(axis=0)

    def smoothed_rate(window):
        if window < 2:
            return np.ones(num_terms)
        if rate == "previous":
            now = np.clip(mean(window - 1) / mean(window - 2), 0.8, 1.25)
        else:
            now = np.minimum(mean(window - 1) / mean(0), 1.25)
        return smoothing * smoothed_rate(window - 1) + (1 - smoothing) * now

    factors = np.ones_like(losses)
    for step in range(2 * size, num_steps):
        weights = np.exp(smoothed_rate(step // size) / temperature)
        weights = np.maximum(num_terms * weights / weights.sum(), floor)
        factors[step] = num_terms * weights / weights.sum()
    return factors


@pytest.mark.parametrize("rate", ["previous", "first"])
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"windows": 8, "smoothing": 0.0},
        {"windows": 8, "temperature": 0.02, "floor": 0.5},
        {"windows": 7, "temperature": 2.0, "smoothing": 0.9, "floor": 0.0},
    ],
)
def test_adaptive_matches_the_simulation(rate, config):
    losses = decaying(124)
    factors = factors_of(weights_of(124, schedule="adaptive", rate=rate, **config), losses)
    expected = simulate(losses, rate=rate, **({"windows": 60} | config))
    np.testing.assert_allclose(factors, expected, rtol=2e-4)
    np.testing.assert_allclose(factors.sum(axis=1), len(TERMS), rtol=1e-5)
    size = round(124 / config.get("windows", 60))
    np.testing.assert_array_equal(factors[: 2 * size], 1)
    assert np.abs(factors[2 * size :] - 1).max() > 0.01


@pytest.mark.parametrize("rate", ["previous", "first"])
def test_the_slower_term_gets_more(rate):
    losses = np.exp(-np.array([0.1, 0.5, 1.2]) * np.arange(60)[:, None] / 60)
    factors = factors_of(weights_of(60, schedule="adaptive", rate=rate, windows=6, floor=0.0), losses)[20:]
    assert (factors[:, 0] > factors[:, 1]).all()
    assert (factors[:, 1] > factors[:, 2]).all()


def test_floor_comes_before_the_renormalisation():
    losses = np.stack([np.ones(30), 0.5 ** np.arange(30)], axis=1)
    weights = weights_of(
        30, ("ce", "kd"), schedule="adaptive", windows=6, temperature=0.01, smoothing=0.0, floor=0.2
    )
    np.testing.assert_allclose(factors_of(weights, losses)[-1], [2 * 2 / 2.2, 2 * 0.2 / 2.2], rtol=1e-4)


def test_rates_are_bounded():
    """A single window in which one loss explodes or vanishes counts as a ratio of 1.25 or 0.8."""
    losses = np.ones((30, 2))
    losses[5:] *= [1e6, 1e-6]
    weights = weights_of(30, ("ce", "kd"), schedule="adaptive", windows=6, smoothing=0.0, temperature=1.0)
    expected = 2 / (1 + math.exp(-0.45))
    np.testing.assert_allclose(factors_of(weights, losses)[10], [expected, 2 - expected], rtol=1e-5)


@pytest.mark.parametrize("rate", ["previous", "first"])
@pytest.mark.parametrize("last", [0, 20])
def test_a_term_that_is_zero_does_no_harm(rate, last):
    losses = decaying(60)
    losses[:, 2] *= np.arange(60) < last
    factors = factors_of(weights_of(60, schedule="adaptive", rate=rate, windows=6), losses)
    assert np.isfinite(factors).all()
    np.testing.assert_allclose(factors.sum(axis=1), 3, rtol=1e-5)


@pytest.mark.parametrize(("schedule", "stop"), [("adaptive", 27), ("adaptive", 30), ("linear", 27), ("fixed", 27)])
@pytest.mark.parametrize("warm_up", [0.0, 0.4, 0.6])
def test_resumes_from_its_state_inside_a_window(schedule, stop, warm_up):
    losses = decaying(60)
    config = {"schedule": schedule, "warm_up": warm_up} | ({"windows": 6} if schedule == "adaptive" else {})
    expected = factors_of(weights_of(60, **config), losses)
    first = weights_of(60, **config)
    factors_of(first, losses[:stop])
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = weights_of(60, **config)
    second.load_state_dict(torch.load(file, weights_only=True))
    for step in range(stop, 60):
        second.advance(step)
        np.testing.assert_array_equal(second.factors.numpy(), expected[step])
        second.observe(torch.tensor(losses[step], dtype=torch.float32))


# Configuration
def test_default_is_the_methods_own_choice():
    assert LossConfig().resolve(method_of("aftkd")).schedule == "adaptive"
    assert LossConfig().resolve(method_of("kd")).schedule == "fixed"
    assert LossConfig(schedule="cosine").resolve(method_of("aftkd")).schedule == "cosine"
    assert LossConfig().resolve(method_of("dkd")).warm_up == pytest.approx(20 / 240)
    assert LossConfig(warm_up=0).resolve(method_of("dkd")).warm_up == 0
    assert LossConfig().resolve(method_of("kd")).warm_up == 0
    assert LossConfig(warm_up=0.5).resolve(method_of("none")).warm_up == 0  # nothing to warm up


@pytest.mark.parametrize("schedule", ["default", "fixed", "linear", "cosine", "adaptive"])
def test_resolving_twice_changes_nothing(schedule):
    resolved = LossConfig(schedule=schedule).resolve(method_of())
    assert resolved.resolve(method_of()) == resolved
    assert not dead_settings(resolved)


def test_signed_terms_are_refused_by_adaptive_alone(monkeypatch):
    method = method_of("at", weights={"kd": 1.0})
    monkeypatch.setattr(get("at"), "signed_terms", frozenset({"at"}))
    with pytest.raises(InvalidSetting, match=r"adaptive.*\bat\b.*fixed"):
        LossConfig(schedule="adaptive").resolve(method)
    for schedule in ("default", "fixed", "linear", "cosine"):
        LossConfig(schedule=schedule).resolve(method)
    without = method_of("at", weights={"kd": 1.0, "at": 0.0})
    LossConfig(schedule="adaptive").resolve(without)


@pytest.mark.parametrize(
    ("schedule", "key", "value"),
    [
        ("fixed", "warm_up", -0.1),
        ("fixed", "warm_up", 1.1),
        ("fixed", "warm_up", math.nan),
        ("linear", "start", -0.1),
        ("cosine", "end", math.inf),
        ("linear", "end", math.nan),
        ("adaptive", "temperature", 0.0),
        ("adaptive", "temperature", math.nan),
        ("adaptive", "windows", 2),
        ("adaptive", "smoothing", 1.0),
        ("adaptive", "smoothing", -0.1),
        ("adaptive", "floor", -0.1),
        ("adaptive", "floor", 1.5),
        ("adaptive", "rate", "second"),
        ("polynomial", "schedule", "polynomial"),
    ],
)
def test_refuses_values_that_cannot_work(schedule, key, value):
    with pytest.raises(InvalidSetting, match=key):
        LossConfig(**{"schedule": schedule} | {key: value}).resolve(method_of())


@pytest.mark.parametrize(
    ("schedule", "key", "value"),
    [
        ("fixed", "start", 0.5),
        ("adaptive", "end", 0.5),
        ("linear", "temperature", 0.2),
        ("cosine", "rate", "first"),
        ("fixed", "windows", 30),
        ("fixed", "smoothing", 0.1),
        ("linear", "floor", 0.1),
    ],
)
def test_a_setting_that_cannot_act_is_complained_about(schedule, key, value):
    config = LossConfig(schedule=schedule)
    assert not dead_settings(config)
    (complaint,) = dead_settings(dataclasses.replace(config, **{key: value}))
    assert key in complaint
    (complaint,) = dead_settings(config, given=[key])
    assert key in complaint
