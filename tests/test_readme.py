"""What README and the pages beside the code say can be typed, and their examples in Python work."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from plugin import install

from analysis import table
from benchmarks import run
from benchmarks.cli import compose_config, main
from benchmarks.files import CARD, RESULT, read_record
from benchmarks.protocol import resolve
from methods import registry

ROOT = Path(__file__).parents[1]
FURTHER = "methods/EXTENDING.md"
PATHS = ("README.md", "analysis/README.md", "benchmarks/README.md", FURTHER, "sweeps/README.md")
PAGES = {path: (ROOT / path).read_text(encoding="utf-8") for path in PATHS}
README = PAGES["README.md"]
# Where a command is that is not in the module that is typed.
HOMES = {"benchmarks.pairs": "benchmarks.pairs.__main__", "benchmarks.suite": "benchmarks.suite.command"}


def command_lines() -> list[str]:
    """Every complete command of ours in an indented block or between backticks."""
    found = re.findall(r"(?:^    |`)(?:\w+=\S+ )?python -m ([\w.]+[^`\n]*)", "\n".join(PAGES.values()), flags=re.M)
    return sorted({line.strip() for line in found})


def anchors(page: str) -> set[str]:
    """What a page's headings are linked by, as GitHub makes it of them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"(?ms)^```.*?^```", "", page), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


LINKS = [(path, link) for path, page in PAGES.items() for link in re.findall(r"\]\(([^)\s]+)\)", page)]


@pytest.mark.parametrize(("path", "link"), [each for each in LINKS if "://" not in each[1]])
def test_links_lead_somewhere(path, link):
    file, _, anchor = link.partition("#")
    target = (ROOT / path).parent / file if file else ROOT / path
    assert target.exists()
    assert not anchor or anchor in anchors(target.read_text(encoding="utf-8"))


@pytest.mark.parametrize("line", command_lines())
def test_commands_compose(line):
    module, *arguments = shlex.split(line)
    command = importlib.import_module(HOMES.get(module, module)).COMMAND
    if arguments and arguments[0] in command.verbs:
        arguments = arguments[1:]
    elsewhere = {"method=l1"}  # README's own example
    if not elsewhere & set(arguments):
        compose_config(command, [argument for argument in arguments if argument != "help"])


def settings() -> list[str]:
    """The left column of README's table of settings."""
    return re.findall(r"^\| `([^`]+)` \|", README, flags=re.M)


@pytest.mark.parametrize("words", settings())
def test_settings_resolve(words):
    arguments = [word for word in shlex.split(words) if "=" in word]
    given = {argument.split("=", 1)[0] for argument in arguments}
    if not given & {"method", "methods"}:
        arguments.append("method=aftkd")
    if "pair" not in given:
        arguments.append("pair=vgg13_vgg8")
    resolve(*compose_config(run.COMMAND, arguments))


TABLES = re.findall(r"^    python -m analysis\.table (source=results/.*)\n\n((?:    .*\n|\n)+)", README, flags=re.M)


@pytest.mark.parametrize(("command", "shown"), TABLES, ids=[command for command, _ in TABLES])
def test_a_table_is_what_its_command_prints(command, shown, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main(table.COMMAND, shlex.split(command)) == 0
    printed = "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines())
    assert re.sub("^    ", "", shown, flags=re.M).strip("\n") in printed


METHOD, LOOP, READING = re.findall(r"```python\n(.*?)```", README + PAGES[FURTHER], flags=re.S)
# Under another name: README's may lie in the clone of who has followed it.
METHOD = METHOD.replace('"l1"', '"own"')


@pytest.fixture
def example(tmp_path):
    """README's method, as a module of its own; gone from the registry afterwards."""
    path = tmp_path / "l1.py"
    path.write_text(METHOD)
    registry.available()
    before = dict(registry._METHODS)
    spec = importlib.util.spec_from_file_location("l1", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["l1"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["l1"]
    registry._METHODS.clear()
    registry._METHODS.update(before)


def test_the_example_method_distils(example, distil, tmp_path):
    import dataclasses

    command = dataclasses.replace(
        run.COMMAND, groups=lambda: {**run.COMMAND.groups(), "method": {"own": example.L1Config()}}
    )
    from commands import TINY

    assert main(command, [*TINY, "method=own", "train.lr=0.01", f"output={tmp_path / 'runs'}"]) == 0


def test_the_example_method_is_listed_after_the_literature(example):
    first, *_, last = registry.available()
    assert (first, last) == ("none", "own")


def test_the_example_method_passes_the_contract_tests(tmp_path):
    """In a package of its own, beside the suite."""
    install(tmp_path, {"own": METHOD}, {"methods": "own = mykd.own"})
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:xdist", "-k", "own", "tests/test_method_contract.py"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout).group(1)) > 20


def test_the_example_reads_the_folders_that_the_first_run_prints():
    student, teacher = re.findall(r'\("(runs/.*)"\)', READING)
    assert f"\n    aftkd: {student}\n" in README
    assert f" from {teacher}: " in README


def test_the_example_reads_what_a_run_left(distil, output, teacher_root, capsys):
    assert distil("method=kd") == 0
    student, teacher = (next(root.rglob(name)).parent for root, name in ((output, RESULT), (teacher_root, CARD)))
    folders = iter((student, teacher))
    capsys.readouterr()
    exec(re.sub(r'\("runs/.*"\)', lambda _: f"({str(next(folders))!r})", READING), {})
    right = sum(map(int, re.findall(r"tensor\((\d+)\)", capsys.readouterr().out)))
    assert 100 * right / 70 == pytest.approx(read_record(student / RESULT)["summary"]["test/top1_last"])


def test_the_example_loop_trains_student_and_connectors():
    scope: dict[str, Any] = {}
    exec(LOOP, scope)
    assert scope["optimizer"].state  # it made a step
    assert all(parameter.grad is None for parameter in scope["teacher"].parameters())
    for trained in ("student", "method"):
        learning = [parameter for parameter in scope[trained].parameters() if parameter.requires_grad]
        assert learning
        assert all(parameter.grad is not None for parameter in learning)
