"""Time in words, and how much of it is left."""

import time

import pytest

from benchmarks.clock import Clock, duration, milliseconds


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.4, "0 s"),
        (89, "89 s"),
        (91, "2 min"),
        (5300, "88 min"),
        (5400, "1.5 h"),
        (35_000, "9.7 h"),
        (36_000, "10 h"),
    ],
)
def test_a_duration_is_told_in_the_unit_that_matters(seconds, said):
    assert duration(seconds) == said


@pytest.mark.parametrize(("seconds", "said"), [(0.000812, "0.81 ms"), (0.00999, "9.99 ms"), (0.3824, "382 ms")])
def test_a_step_is_told_in_milliseconds(seconds, said):
    assert milliseconds(seconds) == said


def test_time_left_is_reckoned_from_the_steps_since_it_started(monkeypatch):
    """Those of an earlier process took nobody's time now."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clock = Clock(done=40, total=100)
    assert clock.left is None
    assert clock.images_per_s(64) == 0
    now[0] += 30
    clock.advance(50)
    assert clock.passed == 30
    assert clock.left == pytest.approx(3 * 50)
    assert clock.images_per_s(64) == pytest.approx(64 / 3)
