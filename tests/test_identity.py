"""The identity of a run: changed by all that can change its result, and by nothing else."""

import dataclasses
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lines import SMALL, student_of
from omegaconf import OmegaConf
from plugin import install

import analysis
from benchmarks import identity
from benchmarks.config import DataConfig, PairConfig, RunConfig, TrainConfig, plain
from benchmarks.hashing import short_hash
from benchmarks.identity import run_id, slug
from benchmarks.later import LATER
from benchmarks.tensors import tensors_sha256
from benchmarks.variants import StudentConfig
from methods import Method, available, configure, default_of, get, option, registry
from methods.schedules import LossConfig

SHA256 = "ab" * 32
RESULTS = Path(__file__).parent.parent / "results"
# Where images are read from; everything else that a student's configuration holds can change its result.
WITHOUT_EFFECT = {"data.root", "data.cache", "train.graph"}


def student(name: str = "aftkd") -> StudentConfig:
    """A configuration with every part that a student has."""
    return dataclasses.replace(BASE, method=configure(name), loss=LossConfig())


BASE = student_of("method=kd", *SMALL)


def altered(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, Enum):
        return next(other for other in type(value) if other is not value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return value + "x"
    if isinstance(value, list):
        return [*value, 99]
    if isinstance(value, dict):
        return value | {next(iter(value)): altered(next(iter(value.values())))}
    assert value is None
    return [1]


def alterations(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every field in a configuration, however deep, with the configuration in which it alone differs."""
    for field in dataclasses.fields(config):
        name, value = f"{prefix}{field.name}", getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            for inner, changed in alterations(value, f"{name}."):
                yield inner, dataclasses.replace(config, **{field.name: changed})
        else:
            yield name, dataclasses.replace(config, **{field.name: altered(value)})


@pytest.mark.parametrize("method", available())
def test_the_id_changes_with_every_field_that_can_change_the_result(method: str) -> None:
    config = student(method)
    ids = {name: run_id(changed, SHA256) for name, changed in alterations(config)}
    unchanged = {name for name, identifier in ids.items() if identifier == run_id(config, SHA256)}
    assert unchanged == WITHOUT_EFFECT
    different = [identifier for name, identifier in ids.items() if name not in WITHOUT_EFFECT]
    assert len(set(different)) == len(different)


def test_the_walk_reaches_every_part() -> None:
    names = {name for name, _ in alterations(student())}
    assert {"seed", "method.degree", "method.weights", "train.precision", "train.device", "train.threads"} <= names
    assert {"data.validation", "pair.student", "loss.schedule", "method.label", "train.max_steps"} <= names


def test_what_a_run_is_told_beside_its_student_is_marked() -> None:
    """Where results go, how they are tracked, whence the teacher, known by its weights, and what is kept of it."""
    marked = set()
    for field in dataclasses.fields(RunConfig):
        section = field.default_factory() if field.default_factory is not dataclasses.MISSING else None
        if not field.metadata["identity"]:
            marked.add(field.name)
        elif section is not None and dataclasses.is_dataclass(section):
            fields = dataclasses.fields(section)
            marked |= {f"{field.name}.{inner.name}" for inner in fields if not inner.metadata["identity"]}
    assert marked == {
        "output",
        "rerun",
        "checkpoint.every_steps",
        "train.graph",
        *(f"teacher.{name}" for name in ("root", "checkpoint", "epochs", "seed", "views")),
        *(f"tracking.{name}" for name in ("mode", "project", "entity", "group", "artifacts")),
    }


def test_settings_without_effect_on_the_result_leave_the_id() -> None:
    line = ("method=kd", *SMALL)
    elsewhere = ("output=x", "data.root=x", "data.cache=x", "tracking.mode=disabled", "tracking.project=x")
    teacher = ("teacher.root=x", "teacher.seed=4", "teacher.epochs=7", "rerun=true")
    assert run_id(student_of(*line, *elsewhere, *teacher), SHA256) == run_id(BASE, SHA256)


def test_a_value_typed_is_the_same_as_the_default() -> None:
    typed = ("seed=0", "train.epochs=3", "train.lr=0.05", "train.milestones=[2]", "method.temperature=4")
    assert run_id(student_of("method=kd", *SMALL, *typed), SHA256) == run_id(BASE, SHA256)


def test_a_variant_without_changes_is_the_method() -> None:
    assert run_id(student_of("methods=[{name: kd}]", *SMALL), SHA256) == run_id(BASE, SHA256)
    changed = student_of("methods=[{name: kd, temperature: 8}]", *SMALL)
    assert run_id(changed, SHA256) == run_id(student_of("method=kd", "method.temperature=8.0", *SMALL), SHA256)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"temperature": 8}, {"temperature": 8.0}),
        ({"weights": {"ce": 1, "kd": 2}}, {"weights": {"kd": 2.0, "ce": 1.0}}),
    ],
)
def test_equal_configurations_have_one_id(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Also those made in Python, where nothing turns 8 into 8.0."""
    first = dataclasses.replace(BASE, method=configure("kd", **one))
    second = dataclasses.replace(BASE, method=configure("kd", **other))
    assert first == second
    assert run_id(first, SHA256) == run_id(second, SHA256)


def test_the_teachers_weights_and_the_attempt_count() -> None:
    ids = [run_id(BASE, sha256, attempt) for sha256 in (None, SHA256, "cd" * 32) for attempt in (0, 1, 2)]
    assert len(set(ids)) == len(ids)
    assert run_id(BASE, SHA256) == run_id(BASE, SHA256, attempt=0)


def test_an_id_is_short_and_fit_for_a_folder() -> None:
    assert re.fullmatch(r"[0-9a-f]{10}", run_id(BASE, SHA256))


def test_a_hash_ignores_the_order_of_keys_only() -> None:
    assert short_hash({"a": 1, "b": [1, 2]}) == short_hash({"b": [1, 2], "a": 1})
    assert short_hash({"a": 1, "b": [1, 2]}) != short_hash({"a": 1, "b": [2, 1]})
    assert len(short_hash({}, 8)) == 8
    # Folders of finished runs are found again by it: it must never change.
    assert short_hash({"a": 1}) == "015abd7f5c"


# --- settings that came later


@dataclass(frozen=True)
class Grown(TrainConfig):
    """The protocol with settings that it does not have yet."""

    new: float = option(0.5, "a setting that came later", later=True)
    several: list[int] = option([1, 2], "another", later=True)


def grown(**settings: Any) -> StudentConfig:
    train = {field.name: getattr(BASE.train, field.name) for field in dataclasses.fields(BASE.train)}
    return dataclasses.replace(BASE, train=Grown(**train | settings))


def test_a_setting_that_came_later_leaves_the_id_while_it_has_its_default() -> None:
    assert run_id(grown(), SHA256) == run_id(BASE, SHA256)
    others = [{"new": 0.25}, {"new": 0.125}, {"several": []}, {"several": [1]}, {"new": 0.25, "several": []}]
    assert len({run_id(grown(**settings), SHA256) for settings in [{}, *others]}) == 1 + len(others)


def test_readers_of_logs_know_every_setting_that_came_later_with_its_default() -> None:
    """And no two settings of a name, of which only one came later: readers see no more than names and values."""
    sections: dict[str, list[Any]] = {
        "pair": [PairConfig],
        "data": [DataConfig],
        "train": [TrainConfig],
        "loss": [LossConfig],
        "method": [get(name).config_class for name in available()],
    }
    assert LATER.keys() <= sections.keys()
    for section, classes in sections.items():
        fields = [field for config in classes for field in dataclasses.fields(config)]
        later = {field.name: plain(default_of(field)) for field in fields if field.metadata["later"]}
        assert later == LATER.get(section, {})
        for field in fields:
            alike = field.metadata["later"] and plain(default_of(field)) == later.get(field.name)
            assert alike or field.name not in later


def logged_student(config: dict[str, Any]) -> StudentConfig:
    """A student by what an older version logged of it."""

    def part(section: str, kind: type) -> Any:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), config[section]))

    return StudentConfig(
        configure(**config["method"]),
        part("pair", PairConfig),
        part("data", DataConfig),
        config["seed"],
        part("train", TrainConfig),
        part("loss", LossConfig),
    )


@pytest.mark.parametrize("name", ["digits", "cifar100-protocol"])
def test_the_ids_of_published_runs_are_what_they_were(name: str) -> None:
    configs = analysis.load(str(RESULTS / name / "logs.parquet")).runs["config"]
    found = {
        identifier: run_id(logged_student(config), (config["teacher"] or {}).get("sha256"), config["attempt"])
        for identifier, config in configs.items()
    }
    assert found
    assert all(identifier == again for identifier, again in found.items())


# --- labels as folders


@pytest.mark.parametrize(
    ("label", "folder"),
    [
        ("kd", "kd"),
        ("vgg13_vgg8", "vgg13_vgg8"),
        ("features only", "features_only"),
        ("T=4", "T=4"),
        ("wrn-40.2+", "wrn-40.2+"),
        ("../../etc/passwd", "etc_passwd"),
        ("/absolute", "absolute"),
        ("..", "unnamed"),
        ("", "unnamed"),
        ("???", "unnamed"),
        (".hidden", "hidden"),
    ],
)
def test_a_label_becomes_the_name_of_a_folder(label: str, folder: str) -> None:
    assert slug(label) == folder


@given(st.text(max_size=30))
def test_a_slug_is_one_folder_whatever_the_label(label: str) -> None:
    folder = slug(label)
    assert Path(folder).name == folder
    assert folder not in {"", ".", ".."}
    assert not folder.startswith(".")
    assert not set(folder) & set('/\\\0 \n:*?"<>|')
    assert slug(folder) == folder


# --- weights


def state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "conv.weight": torch.randn(4, 3, 3, 3, generator=generator),
        "bn.num_batches_tracked": torch.tensor(7),
        "fc.weight": torch.randn(5, 4, generator=generator),
        "half": torch.randn(3, generator=generator).bfloat16(),
        "empty": torch.empty(0, 3),
    }


def test_the_same_weights_in_another_order_or_layout_have_one_hash() -> None:
    original = state()
    moved = dict(reversed(state().items()))
    moved["conv.weight"] = moved["conv.weight"].to(memory_format=torch.channels_last).requires_grad_()
    moved["fc.weight"] = moved["fc.weight"].t().contiguous().t()
    assert not moved["fc.weight"].is_contiguous()
    assert tensors_sha256(moved) == tensors_sha256(original)
    assert re.fullmatch(r"[0-9a-f]{64}", tensors_sha256(original))


def test_any_change_of_the_weights_changes_the_hash() -> None:
    original = state()
    nudged = original["fc.weight"].clone()
    nudged[0, 0] = torch.nextafter(nudged[0, 0], torch.tensor(9.0))
    others = [
        original | {"fc.weight": nudged},
        original | {"fc.weight": original["fc.weight"].double()},
        original | {"fc.weight": original["fc.weight"].reshape(4, 5)},
        original | {"fc.weight": original["fc.weight"].flip(0)},
        original | {"bn.num_batches_tracked": torch.tensor(8)},
        original | {"bias": torch.zeros(1)},
        {name: tensor for name, tensor in original.items() if name != "empty"},
        {name.replace("fc", "classifier"): tensor for name, tensor in original.items()},
    ]
    hashes = [tensors_sha256(each) for each in (original, *others)]
    assert len(set(hashes)) == len(hashes)


# --- code


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of its own, with the two packages that compute results."""
    for name in ("benchmarks/a.py", "benchmarks/data/b.py", "methods/kd.py", "analysis/plot.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"# {name}\n")
    monkeypatch.setattr(identity, "PACKAGE", tmp_path / "benchmarks")
    return tmp_path


def code_version() -> dict[str, str]:
    return identity.code_version.__wrapped__()


@pytest.mark.parametrize("name", ["benchmarks/a.py", "benchmarks/data/b.py", "methods/kd.py"])
def test_the_code_version_changes_with_the_sources_that_compute_results(sources: Path, name: str) -> None:
    before = code_version()
    assert code_version() == before
    (sources / name).write_text("# other\n")
    after = code_version()
    assert after["sources"] != before["sources"]
    assert after["version"] == before["version"]
    (sources / name).rename((sources / name).with_name("renamed.py"))
    assert code_version()["sources"] not in {before["sources"], after["sources"]}


def test_the_code_version_ignores_what_computes_no_results(sources: Path) -> None:
    before = code_version()
    (sources / "analysis/plot.py").write_text("# other\n")
    (sources / "benchmarks/notes.txt").write_text("text")
    assert code_version() == before


def test_without_git_there_is_no_commit(sources: Path) -> None:
    assert "commit" not in code_version()


def test_the_code_version_changes_with_other_packages_that_add_methods(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    found = [code_version()["sources"]]
    install(tmp_path, {"mine": "scale = 1\n", "losses": "half = 1\n"}, {"methods": "mine = mykd.mine"})
    found.append(code_version()["sources"])
    (tmp_path / "mykd" / "losses.py").write_text("half = 0.5\n")
    found.append(code_version()["sources"])
    assert len(set(found)) == 3


def test_the_code_version_names_the_commit_and_whether_the_tree_differs(sources: Path) -> None:
    def git(*arguments: str) -> str:
        options = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        done = subprocess.run(
            ["git", *options, "-C", str(sources), *arguments], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--no-verify", "-m", "first")
    commit = git("rev-parse", "HEAD")
    assert code_version()["commit"] == commit
    (sources / "methods/kd.py").write_text("# other\n")
    assert code_version()["commit"] == f"{commit}-dirty"


OWN = """
class L1(Method[L1Config]):
    needs = frozenset({"logits"})

    def forward(self, student, teacher, target, index):
        return {"l1": (student.logits - teacher.logits).abs().mean()}
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """The hash of a method whose file holds a text."""
    numbers = itertools.count()

    def hashed(text: str) -> str:
        name = f"own{next(numbers)}"
        (tmp_path / f"{name}.py").write_text(text)
        module = ModuleType(name)
        module.__file__ = str(tmp_path / f"{name}.py")
        monkeypatch.setitem(sys.modules, name, module)
        cls = type("L1", (Method,), {"__module__": name, "reference": None})
        monkeypatch.setitem(registry._METHODS, "l1", cls)
        return identity.method_version.__wrapped__("l1")["method_sources"]

    return hashed


def test_networks_and_data_sets_have_versions_of_their_own() -> None:
    versions = [
        identity.network_version(network, name)["network_sources"]
        for network, name in itertools.product(("vgg8", "vgg13", "resnet8", "MobileNetV2"), ("cifar100", "digits"))
    ]
    assert versions[:2] == versions[2:4]  # of one file
    assert len(set(versions)) == 6


def test_the_version_of_a_method_is_that_of_what_its_file_does(own: Callable[[str], str]) -> None:
    same = [
        OWN,
        f'"""Mean absolute difference."""\n# from scratch\n{OWN}',
        OWN.replace("    needs", '    """A method."""\n\n    needs'),
        OWN.replace(
            "(student.logits - teacher.logits)",
            "(\n            student.logits - teacher.logits  # [B, K]\n        )",
        ),
    ]
    other = [
        OWN.replace(".abs()", ".square()"),
        OWN.replace("frozenset({", "frozenset({'embedding', "),
        f"X = 1\n{OWN}",
    ]
    assert len({own(text) for text in same}) == 1
    assert len({own(text) for text in [OWN, *other]}) == 1 + len(other)


def test_every_method_has_a_version_of_its_own() -> None:
    versions = {name: identity.method_version(name)["method_sources"] for name in available()}
    assert len(set(versions.values())) == len(versions)


def test_a_method_without_a_file_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    cls = type("L1", (Method,), {"__module__": "of_a_notebook", "reference": None})
    monkeypatch.setitem(registry._METHODS, "l1", cls)
    assert identity.method_version.__wrapped__("l1") == {}


def test_the_environment_can_be_written_down() -> None:
    found = identity.environment(torch.device("cpu"))
    assert json.loads(json.dumps(found)) == found
    assert found["libraries"]["torch"] == torch.__version__
    assert found["device"]
