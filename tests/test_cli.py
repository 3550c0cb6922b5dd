"""The command line: listings, help, and what it says to a wrong line."""

import dataclasses
import errno
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import TINY, files, merge, run
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

import methods
from benchmarks import cli, models
from benchmarks import run as run_command
from benchmarks import status as status_command
from benchmarks import teacher as teacher_command
from benchmarks.cli import compose_config, main
from benchmarks.config import (
    DataConfig,
    LossConfig,
    PairConfig,
    RunConfig,
    TeacherConfig,
    TrackingConfig,
    TrainConfig,
)
from benchmarks.data import INFO
from benchmarks.errors import Interrupted, RunFailed, UserError
from benchmarks.pairs import PAIRS
from benchmarks.pairs import __main__ as pairs_command
from benchmarks.protocol import resolve
from benchmarks.suite import command as suite_command
from methods import default_of

MOST_LINES = 12


def squeezed(text):
    return "".join(text.split())


def test_bare_command_lists_what_there_is(capsys):
    assert run() == 0
    shown = capsys.readouterr().out
    for name in methods.available():
        reference = methods.get(name).reference
        line = next(line for line in shown.splitlines() if line.split()[:1] == [name])
        assert reference is None or (reference.authors in line and reference.venue in line)
    for pair in (*PAIRS, "custom", *INFO):
        assert any(line.split()[:1] == [pair] for line in shown.splitlines())
    listed, _, examples = shown.partition("Examples:")
    assert set(models.available()) <= set(listed.partition("Networks:")[2].replace(",", " ").split())
    assert examples.count("python -m benchmarks.run ") >= 3


def test_examples_are_lines_that_work():
    for example in run_command.COMMAND.examples:
        words = shlex.split(example)
        words = words[words.index("benchmarks.run") + 1 :]
        config, given = compose_config(run_command.COMMAND, words)
        resolve(config, given)


def test_a_line_makes_what_it_chooses_and_leaves_hydra_as_it_was(monkeypatch):
    """To make the settings of all methods and pairs took most of a short command's time."""
    made, thawed = [], cli.thawed
    monkeypatch.setattr(cli, "thawed", lambda node: (made.append(OmegaConf.get_type(node)), thawed(node))[1])
    hydras = ConfigStore.instance().repo["hydra"]["config.yaml"]
    config, _ = compose_config(run_command.COMMAND, ["method=kd", "pair=vgg13_vgg8"])
    assert (config.method.name, config.pair.name, config.data.name) == ("kd", "vgg13_vgg8", "cifar100")
    assert [each for each in made if issubclass(each, methods.MethodConfig)] == [methods.get("kd").config_class]
    assert ConfigStore.instance().repo["hydra"]["config.yaml"] is hydras


@pytest.mark.parametrize("word", ["--help", "-h", "help"])
def test_help_shows_every_setting_with_its_meaning(word, capsys):
    assert run(word) == 0
    shown = capsys.readouterr().out
    sections = {
        "train": TrainConfig,
        "loss": LossConfig,
        "teacher": TeacherConfig,
        "tracking": TrackingConfig,
        "data": DataConfig,
    }
    fields = [(f"{section}.{f.name}", f) for section, cls in sections.items() for f in dataclasses.fields(cls)]
    fields += [(f.name, f) for f in dataclasses.fields(RunConfig) if f.name not in (*sections, "method", "pair")]
    for key, field in fields:
        if key == "data.name":
            continue
        assert f"  {key}" in shown
        assert squeezed(field.metadata["help"]) in squeezed(shown)
        assert squeezed(field.metadata["source"]) in squeezed(shown)
    assert "preset" in shown
    assert max(map(len, shown.splitlines())) <= 120


@pytest.mark.parametrize("name", methods.available())
def test_help_of_a_method_shows_its_fields_defaults_and_sources(name, capsys):
    assert run(f"method={name}", "help") == 0
    shown = capsys.readouterr().out
    cls = methods.get(name)
    assert cls.summary in shown
    if cls.reference:
        assert cls.reference.url in shown
        assert cls.reference.title in " ".join(shown.split())
    by_pair = {"": cls.config_class.by_pair}
    for (switch, value), table in cls.config_class.by_pair_with.items():
        by_pair[f" with method.{switch}={str(value).lower()}"] = table
    named = [(pair or "any", when) for when, table in by_pair.items() for pair in table]
    assert all(re.search(f"  for {pair}( other)?( pair)?{when}: method.", shown) for pair, when in named)
    section = shown[shown.index(f"\n  {name}: ") :]
    for field in dataclasses.fields(cls.config_class):
        if field.name == "name":
            continue
        line = next(line for line in section.splitlines() if line.split()[:1] == [f"method.{field.name}"])
        default = default_of(field)
        if isinstance(default, bool):
            assert line.endswith(f"= {str(default).lower()}")
        elif isinstance(default, dict):
            assert all(f"{term}: {weight:g}" in line for term, weight in default.items())
        elif default not in (None, ""):
            assert line.endswith(f"= {default}")
        for part in ("help", "source"):
            assert squeezed(field.metadata[part]) in squeezed(section)


def test_help_of_a_pair_shows_its_networks(capsys):
    assert run("pair=vgg13_vgg8", "help") == 0
    shown = capsys.readouterr().out
    for field in dataclasses.fields(PairConfig):
        assert field.name == "name" or f"pair.{field.name} = " in shown


def test_help_of_what_was_chosen_shows_nothing_else(capsys):
    assert run("method=kd", "data=digits", "help") == 0
    shown = re.findall(r"^  (\w+)\.\w+(?: = .*)?$", capsys.readouterr().out, flags=re.M)
    assert set(shown) == {"method", "data"}


def test_help_of_a_grid_that_has_a_name_shows_the_settings_of_all(capsys):
    assert main(suite_command.COMMAND, ["suite=smoke", "help"]) == 0
    assert "  train.epochs" in capsys.readouterr().out


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory):
    """What a user may supply that cannot work."""
    tmp_path = tmp_path_factory.mktemp("bad")
    (tmp_path / "no.yaml").write_text("train: [1\n")
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "unknown.yaml").write_text("train:\n  epoch: 3\n")
    (tmp_path / "file").write_text("a file")
    (tmp_path / "garbage.pth").write_bytes(b"no checkpoint at all")
    torch.save(models.create("resnet8", 10).state_dict(), tmp_path / "whole.pth")
    content = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "truncated.pth").write_bytes(content[: len(content) // 2])
    (tmp_path / "truncated.safetensors").write_bytes(content[:100])
    torch.save(models.create("resnet14", 10).state_dict(), tmp_path / "resnet14.pth")
    torch.save(models.create("resnet8", 100).state_dict(), tmp_path / "hundred.pth")
    torch.save({"hello": "world"}, tmp_path / "foreign.pth")
    return tmp_path


METHODS = ("none", "kd", "at", "fitnet", "crd", "aftkd")
# words, and what the message must name; words replace those of a line that would work
# Numbers, variants and settings that cannot be are in test_protocol.py.
WRONG = [
    (["method=aftdk"], ["method", "'aftdk'", "closest: aftkd", *METHODS]),
    (["pair=vgg13_vgg9"], ["pair", "'vgg13_vgg9'", "closest: vgg13_vgg8", *PAIRS, "custom"]),
    (["data=cifar10"], ["data", "'cifar10'", "closest: cifar100", "digits"]),
    (["sed=1"], ["'sed'", "closest: seed", "train", "output"]),
    (["epochs=3"], ["'epochs'", "within a section: train.epochs, teacher.epochs"]),
    (["weights.kd=3"], ["'weights.kd'", "within a section: method.weights.kd"]),
    (["train.epoch=3"], ["'train.epoch'", "closest: train.epochs", "train.max_steps"]),
    (["method.temprature=3"], ["'method.temprature'", "closest: method.temperature", "method.weights.kd"]),
    (["method.weights.att=3"], ["'method.weights.att'", "method.weights.kd"]),
    (["pair.teacher=resnet9"], ["pair.teacher", "'resnet9'", "resnet8", "vgg13"]),
    (["pair.student=VGG8"], ["pair.student", "'VGG8'", "closest: vgg8"]),
    (["loss.schedul=fixed"], ["'loss.schedul'", "closest: loss.schedule"]),
    (["train=3"], ["train"]),
    (["train.epochs=many"], ["train.epochs", "many", "nteger"]),
    (["train.epochs=1.5"], ["train.epochs", "1.5"]),
    (["train.lr=fast"], ["train.lr", "fast"]),
    (["method.temperature=hot"], ["method.temperature", "hot"]),
    (["train.precision=fp8"], ["train.precision", "fp8", "bf16"]),
    (["train.milestones=3"], ["train.milestones=3", "list", "'train.milestones=[3]'"]),
    (["method=aftkd", "method.block_size=4"], ["method.block_size=4", "list", "'method.block_size=[4]'"]),
    (["train.milestones=[[]]"], ["train.milestones", "list of int"]),
    (["method=aftkd", "method.block_size=[2,[],2,2]"], ["method.block_size"]),
    (["loss.schedule=sine"], ["loss.schedule", "sine", "cosine"]),
    (["tracking.mode=maybe"], ["tracking.mode", "maybe", "offline"]),
    (["train.epochs="], ["train.epochs", "missing"]),
    (["method="], ["method", "missing"]),
    (["train.epochs"], ["train.epochs", "key=value"]),
    (["--epochs", "3"], ["--epochs", "key=value"]),
    (["seed=1", "seed=2"], ["seed", "twice"]),
    (["method=kd", "method=at"], ["method", "twice"]),
    (["+seed=1"], ["+seed=1"]),
    (["++seed=1"], ["++seed=1"]),
    (["~seed"], ["~seed"]),
    (["~seed=1"], ["~seed=1"]),
    (["hydra.run.dir=x"], ["hydra.run.dir"]),
    (["hydra/launcher=basic"], ["hydra/launcher"]),
    (["method@other=kd"], ["method@other"]),
    (["seed=1,2"], ["seed=1,2", "[a,b]"]),
    (["method=kd,at"], ["method=kd,at"]),
    (["seed=range(1,3)"], ["seed"]),
    (["tracking.project=a=b"], ["tracking.project", "quotes", "tracking.project='a=b'"]),
    (["methods=[{name: kd, label: 蒸馏}]"], ["methods=", "quotes of its own", "label: 'a (b)'"]),
    (["methods=[kd,at"], ["'methods=[kd,at'", "[ is not closed", "quote the whole argument"]),
    (["methods=[kd, {name: at]"], ["{ is not closed"]),
    (["methods=kd,at]"], ["a ] has no [ before it"]),
    (["pair.name=mine"], ["pair.name", "pair="]),
    (["method.name=at"], ["method.name", "method="]),
    (["data.name=cifar100"], ["data.name", "data="]),
    (["methods=[at]"], ["method=", "methods=", "both"]),
    (["seed=[0,1]"], ["seed=[0,1]", "python -m benchmarks.suite … 'seeds=[0,1]'"]),
    (["seeds=[0,1]"], ["seeds=[0,1]", "python -m benchmarks.suite … 'seeds=[0,1]'"]),
    (["method=[kd,at]"], ["method=[kd,at]", "several: 'methods=[kd,at]'"]),
    (["pair=[vgg13_vgg8]"], ["python -m benchmarks.suite … 'pairs=[vgg13_vgg8]'"]),
    (["preset={tmp}/missing.yaml"], ["preset", "missing.yaml", "No such file"]),
    (["preset={tmp}/no.yaml"], ["preset", "no.yaml", "YAML"]),
    (["preset={tmp}/list.yaml"], ["preset", "list.yaml"]),
    (["preset={tmp}/unknown.yaml"], ["train.epoch", "closest: train.epochs"]),
    (["preset={tmp}"], ["preset", "{tmp}"]),
    (["train.epochs=-1"], ["train.epochs", "-1", "at least 1"]),
    (["data.validation=0.0001"], ["data.validation", "0.0001"]),
    (["method=aftkd", "method.block_size=[64,4,2]"], ["block_size", "64", "aftkd", "32"]),
    (["method=aftkd", "method.block_size=[4]"], ["block_size", "[4]", "3"]),
    (["method=aftkd", "method.content=features", "method.degree=0.3"], ["method.degree", "0.3", "content=both"]),
    (["method=fitnet", "method.stage=9"], ["stage", "9", "0, 1, 2, 3"]),
    (["teacher.checkpoint={tmp}/missing.pth"], ["teacher.checkpoint", "missing.pth", "no such file"]),
    (["teacher.checkpoint={tmp}/garbage.pth"], ["teacher.checkpoint", "garbage.pth"]),
    (["teacher.checkpoint={tmp}/truncated.pth"], ["teacher.checkpoint", "truncated.pth", "damaged"]),
    (["teacher.checkpoint={tmp}/truncated.safetensors"], ["teacher.checkpoint", "truncated.safetensors"]),
    (["teacher.checkpoint={tmp}/foreign.pth"], ["teacher.checkpoint", "foreign.pth", "'model'", "'state_dict'"]),
    (["teacher.checkpoint={tmp}/resnet14.pth"], ["resnet14.pth", "is not a resnet8"]),
    (["teacher.checkpoint={tmp}/hundred.pth"], ["hundred.pth", "100 classes", "10"]),
    (["output={tmp}/file"], ["output={tmp}/file is a file, not a folder"]),
    (["output={tmp}/file/below"], ["output", "{tmp}/file"]),
    (["output=/proc/nothing"], ["output", "/proc/nothing"]),
    (["data=cifar100", "data.root={tmp}/none"], ["data.root", "{tmp}/none"]),
]


def check_refused(status, capsys, fragments, output):
    """A mistake of the user's: status 2, a few clear lines, nothing written."""
    shown = capsys.readouterr()
    assert status == 2, shown
    assert shown.err.startswith("error: ")
    assert 1 <= len(shown.err.splitlines()) <= MOST_LINES
    assert "Traceback" not in shown.err + shown.out
    for fragment in fragments:
        assert fragment in shown.err
    assert not output.is_dir() or not files(output)


@pytest.mark.parametrize(("words", "fragments"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_a_wrong_line_is_refused_clearly(words, fragments, bad_files, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("socket.getaddrinfo", no_network)
    output = tmp_path / "runs"
    words = [word.replace("{tmp}", str(bad_files)) for word in words]
    rest = merge(["method=kd", *TINY, f"output={output}"], words)[: -len(words)]
    status = run(*words, *rest)
    check_refused(status, capsys, [fragment.replace("{tmp}", str(bad_files)) for fragment in fragments], output)


def no_network(*_, **__):
    raise OSError("no network")


# words that are the whole line, but for output
INCOMPLETE = [
    (["pair=vgg13_vgg8", "data=digits"], ["method=", "methods="]),
    (["method=kd", "data=digits"], ["pair="]),
    (["pair=vgg13_vgg8", "data=digits", "method.temperature=3"], ["method.temperature", "method="]),
    (["pair=custom", "method=kd", "data=digits"], ["pair.teacher", "resnet8"]),
    (["pair=custom", "method=kd", "data=digits", "pair.teacher=resnet8"], ["pair.student", "resnet8"]),
    (["pair=vgg13_vgg8", "data=digits", "methods=[]"], ["method"]),
    (["pair=vgg13_vgg8", "data=digits", "methods=kd"], ["methods=kd", "list", "'methods=[kd]'"]),
    (
        ["method.weights.at=2", "pair=vgg13_vgg8", "data=digits", "methods=[none,kd,{name: at, label: x}]"],
        ["method.weights.at=2", "within the list, as {name: at, weights: {at: 2}}"],
    ),
    (
        ["pair=vgg13_vgg8", "data=digits", "methods=[kd]", "method.foo=2"],
        ["method.foo=2", "within the list, as {name: …, foo: 2}"],
    ),
]


@pytest.mark.parametrize(("words", "fragments"), INCOMPLETE, ids=[" ".join(words) for words, _ in INCOMPLETE])
def test_a_line_that_cannot_be_completed_is_refused_clearly(words, fragments, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("benchmarks.distillation.Distillation.__call__", lambda self: 0)
    output = tmp_path / "runs"
    check_refused(run(*words, f"output={output}"), capsys, fragments, output)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (status_command.COMMAND, ["output={long}"]),
        (pairs_command.COMMAND, ["teacher.root={long}"]),
        (teacher_command.COMMAND, ["list", "teacher.root={long}"]),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_folder_that_cannot_be_looked_at_is_refused(command, words, tmp_path, capsys):
    words = [word.format(long=tmp_path / ("x" * 300)) for word in words]
    check_refused(main(command, words), capsys, [words[-1], os.strerror(errno.ENAMETOOLONG)], tmp_path)


BROKEN_FILES = {
    "import nothing_there": "ModuleNotFoundError: No module named 'nothing_there'",
    "def f(:": "SyntaxError: invalid syntax",
    "import methods\nmethods.register('kd', int, summary='', reference=None)(int)": "ValueError: two methods are",
    "import json\njson.loads('')": "JSONDecodeError: Expecting value",
}


@pytest.mark.parametrize(("content", "why"), BROKEN_FILES.items(), ids=BROKEN_FILES.values())
def test_a_broken_file_of_a_method_is_named(content, why, tmp_path, monkeypatch, capsys):
    (tmp_path / "broken_here.py").write_text(content)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    methods.registry.import_all.cache_clear()
    try:
        check_refused(
            run("method=kd", *TINY), capsys, [f"{tmp_path / 'broken_here.py'}, line ", why], tmp_path / "runs"
        )
    finally:
        monkeypatch.undo()
        methods.available()


@pytest.mark.parametrize("package", ["methods", "benchmarks.models", "benchmarks.data"])
def test_a_broken_file_lets_no_command_fail_while_it_is_imported(package, tmp_path):
    (tmp_path / "broken_here.py").write_text("import nothing_there")
    code = (
        f"import {package}, runpy, sys; {package}.__path__.append({str(tmp_path)!r}); "
        "runpy.run_module('benchmarks.run', run_name='__main__')"
    )
    line = [sys.executable, "-c", code, "method=kd", *TINY, f"output={tmp_path}"]
    done = subprocess.run(line, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "broken_here.py, line 1" in line


COMMANDS = ("benchmarks.run", "benchmarks.suite", "benchmarks.status", "sweeps.run", "analysis.table")


def heed_interrupts():
    """As a terminal's shell starts commands; those that a shell puts into the background ignore interrupts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.parametrize("module", COMMANDS)
def test_an_interrupt_while_a_command_is_imported_ends_it_quietly(module, tmp_path):
    (tmp_path / "hydra").mkdir()  # in the place of what every command imports
    (tmp_path / "hydra" / "__init__.py").write_text("import time\nprint('begun', flush=True)\ntime.sleep(60)\n")
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, "-m", module],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    ) as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == -signal.SIGINT


def test_an_interrupt_of_a_command_that_runs_is_an_exception():
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        assert main(command(lambda: signal.raise_signal(signal.SIGINT)), ["method=kd"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)


def test_message_about_an_unknown_setting_lists_only_settings_that_can_be_set(capsys):
    assert run("method=kd", *TINY, "method.foo=1") == 2
    valid = capsys.readouterr().err.partition("valid: ")[2].strip().split(", ")
    assert set(valid) == {
        "method.label",
        "method.weights.ce",
        "method.weights.kd",
        "method.temperature",
        "method.standardise",
    }


def composed(*words):
    return compose_config(run_command.COMMAND, words)[0]


def test_quoted_value_may_contain_special_characters():
    assert composed("tracking.project='a=b'").tracking.project == "a=b"
    assert composed("tracking.project='a b, (c)'").tracking.project == "a b, (c)"
    assert composed('output="/tmp/x=1"').output == "/tmp/x=1"


def test_order_of_words_does_not_matter():
    assert composed("method.temperature=2", "method=kd") == composed("method=kd", "method.temperature=2")


def test_a_wrong_value_is_found_beside_another_data_set_than_the_usual():
    for words in (["method=kd", "pair=vgg13_vgg8", "data=digits"], ["pair=custom", "data=digits"]):
        with pytest.raises(UserError, match=r"train\.epochs=three: "):
            composed(*words, "train.epochs=three")


def preset(tmp_path, text):
    path = tmp_path / "preset.yaml"
    path.write_text(text)
    return f"preset={path}"


def test_preset_comes_before_the_command_line(tmp_path):
    line = preset(
        tmp_path,
        "pair: vgg13_vgg8\nseed: 3\ntrain:\n  epochs: 7\n  lr: 0.2\n  milestones: [2, 3]\n"
        "tracking:\n  project: 'a = b, \"c\" (d)'\n  group: null\nrerun: true\n",
    )
    for words in ([line, "train.epochs=9", "method=kd"], ["method=kd", "train.epochs=9", line]):
        config = composed(*words)
        assert (config.train.epochs, config.train.lr, config.seed) == (9, 0.2, 3)
        assert list(config.train.milestones) == [2, 3]
        assert (config.pair.name, config.method.name, config.rerun) == ("vgg13_vgg8", "kd", True)
        assert config.tracking.project == 'a = b, "c" (d)'
        assert config.tracking.group is None


def test_preset_may_describe_a_method_as_a_mapping(tmp_path):
    text = "method:\n  name: aftkd\n  degree: 0.3\n  block_size: [8, 4, 2]\n  weights:\n    afb: 5\n"
    config, given = compose_config(run_command.COMMAND, [preset(tmp_path, text), "method.p=2"])
    assert (config.method.name, config.method.degree, config.method.p) == ("aftkd", 0.3, 2.0)
    assert list(config.method.block_size) == [8, 4, 2]
    assert dict(config.method.weights) == {"ce": 1.0, "kd": 1.0, "afb": 5.0}
    assert "method.degree" in given


def test_preset_may_hold_a_cohort_of_variants(tmp_path):
    text = (
        "pair: vgg13_vgg8\nmethods:\n  - kd\n  - name: aftkd\n    label: 'features, only'\n    content: features\n"
    )
    config, given = compose_config(run_command.COMMAND, [preset(tmp_path, text)])
    run_config, chosen = resolve(config, given)
    assert [variant.method.name for variant in chosen] == ["kd", "aftkd"]
    assert chosen[1].label == "features, only"
    assert chosen[1].method.content == "features"
    assert run_config.pair.name == "vgg13_vgg8"


def test_dead_setting_in_a_preset_is_refused(tmp_path, capsys):
    line = preset(tmp_path, "method:\n  name: aftkd\n  content: features\n  degree: 0.3\n")
    assert run(*TINY, line) == 2
    assert "method.degree=0.3" in capsys.readouterr().err


def test_numbers_are_converted_to_the_declared_type():
    config = composed("method=kd", "train.lr=1", "method.temperature=2")
    assert isinstance(config.train.lr, float)
    assert isinstance(config.method.temperature, float)


def test_composing_leaves_nothing_behind_for_the_next_command():
    composed("method=kd", "method.temperature=2", "train.lr=1")
    assert composed("method=kd").method.temperature == 4.0


def command(work):
    return dataclasses.replace(run_command.COMMAND, run=lambda config, given: work())


@pytest.mark.parametrize("kind", [ValueError, KeyError, RuntimeError, AssertionError, OSError, TypeError])
def test_internal_error_is_not_the_users_mistake(kind):
    def work():
        raise kind("a bug")

    with pytest.raises(kind, match="a bug"):
        main(command(work), ["method=kd"])


def test_errors_have_their_exit_statuses(capsys):
    def status(error):
        def work():
            raise error

        return main(command(work), ["method=kd"])

    assert main(command(lambda: 0), ["method=kd"]) == 0
    assert status(UserError("mine")) == 2
    assert status(methods.InvalidSetting("mine")) == 2
    assert status(RunFailed("mine")) == 1
    assert status(Interrupted(15)) == 143
    assert status(Interrupted(2)) == 130
    assert status(KeyboardInterrupt()) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_package_named_methods_where_it_is_typed_is_told_of(tmp_path):
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "__init__.py").touch()
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.run"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: {tmp_path / 'methods'} hides")
    assert "python -P" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_who_names_two_networks_as_a_pair_is_told_of_custom(capsys):
    assert run("method=none", "pair=resnet20_resnet8") == 2
    assert "pair=custom pair.teacher=NAME pair.student=NAME" in capsys.readouterr().err
