"""Settings and fixtures for all tests."""

import hypothesis
import pytest
import torch

torch.set_num_threads(1)  # tiny tensors: threads cost more than they bring
hypothesis.settings.register_profile("suite", deadline=None, max_examples=25, derandomize=True)
hypothesis.settings.load_profile("suite")


@pytest.fixture(scope="session")
def teacher_root(tmp_path_factory):
    """A teacher store with the one teacher that the tests of the commands share."""
    from commands import TINY, few_digits, run

    folder = tmp_path_factory.mktemp("teachers")
    with few_digits():
        assert run(*TINY, "method=kd", f"output={folder / 'runs'}", f"teacher.root={folder / 'store'}") == 0
    return folder / "store"


@pytest.fixture
def output(tmp_path):
    """Where `distil` leaves its runs."""
    return tmp_path / "runs"


@pytest.fixture
def no_training(monkeypatch):
    """A call that makes any further training fail the test."""
    from benchmarks.training.cohort import Cohort

    return lambda: monkeypatch.setattr(Cohort, "run", lambda self: pytest.fail("it trains"))


@pytest.fixture
def distil(tmp_path, teacher_root, monkeypatch):
    """Runs `benchmarks.run` in this process on a tiny configuration, into `tmp_path / "runs"`."""
    from commands import TINY, few_digits, merge, run

    for name in ("WANDB_MODE", "WANDB_API_KEY", "KD_DATA"):
        monkeypatch.delenv(name, raising=False)
    base = [*TINY, f"output={tmp_path / 'runs'}", f"teacher.root={teacher_root}"]
    with few_digits():
        yield lambda *words: run(*merge(base, words))


@pytest.fixture(scope="session")
def postgresql():
    """The URL of a PostgreSQL database, password included."""
    import postgres

    with postgres.server() as url:
        yield url
