"""Other images under a data set's name: no run or teacher of the former ones is passed off as theirs."""

import pytest
from commands import TINY, few_digits, files, merge, run, run_folders

from benchmarks.images import FILE


@pytest.fixture
def distil_of(output):
    """Runs `benchmarks.run` on so many of the digits, in one folder."""

    def distil(num_train, *words):
        with few_digits(train=num_train):
            return run(*merge([*TINY, f"output={output}"], words))

    return distil


def test_runs_and_teachers_of_other_images_are_refused(distil_of, output, tmp_path, capsys):
    assert distil_of(400, "method=kd") == 0
    left = files(output)
    capsys.readouterr()
    assert distil_of(300, "methods=[none,kd]") == 2
    shown = capsys.readouterr().err
    assert f"output={output} holds what was trained on other images of data=digits" in shown
    assert str(output / FILE) in shown
    store = f"teacher.root={output / 'teachers'}"
    assert distil_of(300, "method=kd", f"output={tmp_path / 'elsewhere'}", store) == 2
    assert store in capsys.readouterr().err
    assert files(output) == left
    assert distil_of(400, "methods=[none,kd]") == 0
    assert len(run_folders(output, "kd")) == 1
    assert distil_of(300, "method=none", f"output={tmp_path / 'elsewhere'}") == 0


def test_held_out_images_are_told_apart(distil_of):
    for part in (0, 0.2, 0.1, 0):
        assert distil_of(400, "method=none", f"data.validation={part}") == 0


def test_complete_runs_say_where_their_images_are(distil_of, tmp_path, capsys):
    one, other = tmp_path / "one", tmp_path / "other"
    for root in (one, other):
        root.mkdir()
    assert distil_of(400, "method=none", f"data.root={one}") == 0
    assert distil_of(400, "method=none", f"data.root={one}") == 0
    assert "learned from" not in capsys.readouterr().out
    assert distil_of(400, "method=none", f"data.root={other}") == 0
    shown = capsys.readouterr().out.replace("\n", "")
    assert f"they learned from the images in {one}; those of {other} were not looked at" in shown
