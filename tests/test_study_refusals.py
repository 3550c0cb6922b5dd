"""Studies that cannot be: said in a few lines, with exit status 2, before anything is written."""

import pytest
from commands import few_digits, files, merge
from studies import QUICK, formula, shown, study, trials_of

from benchmarks import later
from benchmarks.cli import main
from sweeps import fair, storage
from sweeps.plan import disagreements

BLOCKS = tuple(merge(QUICK, ["space=aftkd_blocks", "study=mine", "trials=2", "confirm=0"]))


@pytest.fixture
def refused(tmp_path, capsys):
    """Checks that a command is refused, leaving a folder as it was; gives what it says."""

    def check(command, *words):
        before = files(tmp_path)
        status = command(*words)
        shown = capsys.readouterr()
        assert status == 2
        assert 1 <= len(shown.err.splitlines()) <= 5
        assert "Traceback" not in shown.out + shown.err
        assert files(tmp_path) == before
        return shown.err

    return check


IMPOSSIBLE = [
    (["space=aftkd_block"], "closest: aftkd_blocks"),
    (["space=kd", "trials=0"], "trials=0 must be at least 1"),
    (["space=kd", "seeds=0"], "seeds"),
    (["space=kd", "seeds=[0,-1]"], "seeds=-1 must be at least 0"),
    (["space=kd", "storage=sqlite:////proc/none/studies.db"], "storage=sqlite:////proc/none/studies.db"),
    (["space=kd", "storage=postgresql://kd:secret@127.0.0.1:9/none"], "storage=postgresql://kd:***@127.0.0.1:9"),
    (["space=kd", "storage=postgresql://kd:my@secret@127.0.0.1:9/none"], "written %40"),
    (["space=kd", "storage=grpc://127.0.0.1:9"], "storage=grpc://127.0.0.1:9"),
    (["space=kd", "storage=studies.db"], "storage=studies.db is not a URL; one of sqlite:///FILE, "),
    (["space=kd", "storage=postgresql://kd:secret@host:port/studies"], "storage=… is not a URL"),
]
MORE = [
    (["space=kd", "pair=vgg13_vgg9"], "closest: vgg13_vgg8"),
    (["space=kd", "budget=0"], "budget=0 must be at least 1"),
    (["space=kd", "data.validation=0"], "never on the test set"),
    (["space=kd", "teacher.checkpoint=x.pth"], "teacher.checkpoint"),
    (["space=kd", "storage=kd:secret@host/studies"], "storage=… is not a URL"),
    (["space=kd", "storage=sqlite://studies.db"], "a file is named by sqlite:///FILE"),
    ([], "choose a space"),
    (["space=kd", "method=at"], "space=kd is of method=kd"),
    (["space=kd", "trials=many"], "trials"),
    (["space=kd", "seeds=[]"], "seeds=[]"),
    (["space=kd", "seeds=[1,1]"], "seeds=[1, 1]"),
    (["space=kd", "workers=0"], "workers=0 must be at least 1"),
    (["space=kd", "cohort=5"], "cohort=5 must be 1 to 4"),
    (["space=kd", "heartbeat=0"], "heartbeat=0"),
    (["space=kd", "confirm=-1"], "confirm=-1"),
    (["space=kd", "pruner=wilcoxon"], "fewer than 4"),
    (["space=kd", "pruner=median"], "pruner"),
    (["space=kd", "train.epochs=3"], "budget="),
    (["space=kd", "storage=mysql://host/studies"], "mysql is none of"),
]


@pytest.mark.parametrize(
    ("words", "named"), [*IMPOSSIBLE, *(pytest.param(*case, marks=pytest.mark.slow) for case in MORE)]
)
def test_what_cannot_be_is_refused(words, named, refused, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "SECONDS_TO_CONNECT", 1)
    message = refused(study, *merge(QUICK, words), f"output={tmp_path}")
    assert named in message
    assert "secret" not in message


@pytest.mark.parametrize("content", [b"no database at all" * 400, b"SQLite format 3\0" + bytes(4080)])
def test_a_damaged_database_is_named_and_left_alone(content, refused, tmp_path):
    path = tmp_path / "studies.db"
    path.write_bytes(content)
    assert str(path) in refused(study, *BLOCKS, f"output={tmp_path}")
    assert str(path) in refused(shown, "study=mine", f"output={tmp_path}")
    assert path.read_bytes() == content


def test_a_study_of_other_settings_is_not_gone_on_with(refused, tmp_path):
    with few_digits(), formula(lambda variant, seed: 50.0):
        assert study(*BLOCKS, f"output={tmp_path}") == 0
        before = trials_of(f"sqlite:///{tmp_path}/studies.db")
        for word in ("budget=2", "data.validation=0.3", "space=loss_schedule", "train.schedule=cosine"):
            message = refused(study, *merge(BLOCKS, [word]), f"output={tmp_path}")
            assert "study=mine was begun with" in message
    assert trials_of(f"sqlite:///{tmp_path}/studies.db") == before


def test_a_study_begun_before_a_setting_came_goes_on_with_its_default_alone(monkeypatch):
    monkeypatch.setattr(later, "LATER", {"train": {"new": "usual"}})
    begun, usual, other = ({"train": {"epochs": 3} | new} for new in ({}, {"new": "usual"}, {"new": "other"}))
    assert not disagreements(begun, usual)
    assert not disagreements(usual, begun)
    assert disagreements(begun, other) == disagreements(usual, other) == ["train.new=usual"]
    assert disagreements(other, begun) == disagreements(other, usual) == ["train.new=other"]


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "study="),
        (["study=none"], "no such file"),
        (["study=mine", "top=0"], "top=0"),
    ],
)
def test_what_cannot_be_shown_is_refused(words, named, refused, tmp_path):
    assert named in refused(shown, *words, f"output={tmp_path}/nowhere")


def test_a_storage_without_studies_is_said_to_have_none(refused, tmp_path):
    storage.open_storage(f"sqlite:///{tmp_path}/studies.db")
    assert refused(shown, "study=mine", f"output={tmp_path}").endswith("studies.db: there is no study yet\n")


@pytest.mark.slow
def test_the_studies_of_a_storage_are_listed(refused, tmp_path, capsys):
    with few_digits(), formula(lambda variant, seed: 50.0):
        assert study(*merge(BLOCKS, ["confirm=1"]), f"output={tmp_path}") == 0
    capsys.readouterr()
    for words in (["list", f"output={tmp_path}"], [f"output={tmp_path}", "list"]):
        assert shown(*words) == 0
        assert capsys.readouterr().out.splitlines()[1:] == ["  mine"]
    assert "closest: mine" in refused(shown, "study=min", f"output={tmp_path}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([], "methods=[]"),
        (["methods=[kd]"], "methods=['kd'] must name at least two methods"),
        (["methods=[kd,kd]"], "each once"),
        (["methods=[kd,nokd]"], "unknown method 'nokd'"),
        (["methods=[kd,at]", "confirm=0"], "confirm=0"),
    ],
)
def test_what_cannot_be_compared_is_refused(words, named, refused, tmp_path):
    def compare(*words):
        return main(fair.COMMAND, list(words))

    assert named in refused(compare, *merge(QUICK, words), f"output={tmp_path}")
