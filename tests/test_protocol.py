"""Resolution: the protocol's defaults, and every value that cannot work refused by the name of its key."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from lines import SMALL, resolved, run_of

from benchmarks import data, models, published
from benchmarks.config import Device, Mode, Precision, RunConfig, plain
from benchmarks.errors import UserError
from benchmarks.overrides import as_overrides
from benchmarks.pairs import PAIRS
from benchmarks.protocol import scaled_milestones
from benchmarks.repeat import beyond_usual
from benchmarks.training.build import specs_of
from methods import InvalidSetting, available, configure, get

KD = ("method=kd", *SMALL)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a CUDA device, and nothing set."""
    for name in ("KD_DATA", "WANDB_MODE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def refused(*arguments: str) -> str:
    """The message with which a line is refused."""
    with pytest.raises((UserError, InvalidSetting)) as caught:
        resolved(*arguments)
    message = str(caught.value)
    assert len(message.splitlines()) <= 5
    return message


# --- defaults


def test_the_common_protocol_on_cifar100() -> None:
    run, (variant,) = resolved("method=kd", "pair=vgg13_vgg8")
    train = run.train
    assert (run.data.name, run.data.root, run.data.validation, run.seed) == ("cifar100", "data", 0.0, 0)
    assert (run.pair.name, run.pair.teacher, run.pair.student) == ("vgg13_vgg8", "vgg13", "vgg8")
    assert (train.epochs, train.batch_size, train.lr, train.momentum) == (240, 64, 0.05, 0.9)
    assert (train.weight_decay, train.milestones, train.decay) == (5e-4, [150, 180, 210], 0.1)
    assert (train.max_steps, train.deterministic) == (None, False)
    assert (run.teacher.epochs, run.teacher.seed, run.teacher.checkpoint) == (240, 0, None)
    assert (run.output, run.teacher.root) == ("runs", str(Path("runs") / "teachers"))
    assert run.tracking.mode == Mode.offline
    assert not run.rerun
    assert variant.method.name == "kd"


def test_digits_have_epochs_of_their_own() -> None:
    run, _ = resolved(*KD)
    assert (run.data.name, run.train.epochs, run.teacher.epochs) == ("digits", 3, 3)
    assert (run.train.lr, run.train.milestones) == (0.05, [2])


def test_every_value_is_filled_in_and_frozen() -> None:
    run, (variant,) = resolved(*KD)
    assert "???" not in str(plain(run))
    for config in (run, run.pair, run.data, run.train, run.loss, run.teacher, run.tracking, variant.method):
        assert dataclasses.is_dataclass(config)
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, dataclasses.fields(config)[0].name, "other")


@pytest.mark.parametrize("pair", PAIRS)
def test_mobile_students_learn_at_their_own_rate(pair: str) -> None:
    run = run_of(f"pair={pair}", "data=cifar100")
    assert (run.pair.teacher, run.pair.student) == PAIRS[pair]
    assert run.train.lr == (0.01 if PAIRS[pair][1] in {"MobileNetV2", "ShuffleV1", "ShuffleV2"} else 0.05)


def test_the_pairs_are_the_thirteen_of_the_literature() -> None:
    assert len(PAIRS) == 13
    for teacher, student in PAIRS.values():
        assert {teacher, student} <= set(models.available())


@pytest.mark.parametrize(
    ("epochs", "milestones"),
    [
        (240, [150, 180, 210]),
        (120, [75, 90, 105]),
        (48, [30, 36, 42]),
        (8, [5, 6, 7]),
        (480, [300, 360, 420]),
        (3, [2]),
        (1, []),
    ],
)
def test_milestones_are_scaled(epochs: int, milestones: list[int]) -> None:
    assert scaled_milestones(epochs) == milestones


def test_milestones_ascend_within_any_training() -> None:
    for epochs in range(1, 300):
        found = scaled_milestones(epochs)
        assert found == sorted(set(found))
        assert all(0 < milestone < epochs for milestone in found)


def test_only_epochs_scale_milestones_and_shorten_the_teacher() -> None:
    run = run_of("train.epochs=48", "data=cifar100")
    assert (run.train.milestones, run.teacher.epochs) == ([30, 36, 42], 48)
    run = run_of("train.epochs=48", "train.milestones=[7,9]", "teacher.epochs=5", "data=cifar100")
    assert (run.train.milestones, run.teacher.epochs) == ([7, 9], 5)
    assert run_of("train.epochs=480", "data=cifar100").teacher.epochs == 240
    assert run_of("train.milestones=[]").train.milestones == []


def test_values_given_stay() -> None:
    given = ("train.lr=0.3", "train.epochs=7", "train.threads=3", "data.root=a", "data.cache=b", "teacher.root=c")
    run = run_of(*given, "tracking.mode=online", "train.precision=bf16", "train.device=cpu")
    assert (run.train.lr, run.train.epochs, run.train.threads) == (0.3, 7, 3)
    assert (run.data.root, run.data.cache, run.teacher.root) == ("a", "b", "c")
    assert (run.tracking.mode, run.train.precision, run.train.device) == (Mode.online, "bf16", "cpu")


# --- pairs


def test_a_custom_pair_is_named_after_its_networks() -> None:
    run = run_of("pair=custom", "pair.teacher=wrn_16_2", "pair.student=MobileNetV2")
    assert (run.pair.teacher, run.pair.student) == ("wrn_16_2", "MobileNetV2")
    assert run.pair.name == "wrn_16_2_mobilenetv2"


@pytest.mark.parametrize("pair", ["vgg13_vgg8", "wrn40_2_wrn16_2", "vgg13_mobilenetv2"])
def test_a_known_pair_spelt_out_is_that_pair(pair: str) -> None:
    """Else the same run would have two ids, and be trained twice."""
    teacher, student = PAIRS[pair]
    custom = run_of("pair=custom", f"pair.teacher={teacher}", f"pair.student={student}")
    assert custom.pair == run_of(f"pair={pair}").pair


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_a_pair_with_another_network_is_not_filed_under_its_name(role: str) -> None:
    """There would be another pair's figures, and its published ones beside them."""
    networks = dict(zip(("teacher", "student"), PAIRS["vgg13_vgg8"], strict=True)) | {role: "vgg11"}
    message = refused("method=kd", "pair=vgg13_vgg8", f"pair.{role}=vgg11")
    assert f"pair=custom pair.teacher={networks['teacher']} pair.student={networks['student']}" in message


# --- methods and variants


def test_variants_differ_from_their_method_in_what_they_name() -> None:
    _, variants = resolved(
        "methods=[none,kd,{name: kd, label: soft, temperature: 8},{name: kd, label: weak, weights: {kd: 0.5}}]",
        *SMALL,
    )
    methods = [variant.method for variant in variants]
    assert [(method.name, method.label) for method in methods] == [
        ("none", ""),
        ("kd", ""),
        ("kd", "soft"),
        ("kd", "weak"),
    ]
    assert [plain(method).get("temperature") for method in methods] == [None, 4.0, 8.0, 4.0]
    assert isinstance(plain(methods[2])["temperature"], float)
    assert methods[3].weights == {"ce": 0.1, "kd": 0.5}


def beta(*words: str) -> float:
    _, (variant,) = resolved(*words)
    return variant.method.weights["nckd"]


def test_a_papers_settings_for_a_pair_stand_between_defaults_and_what_is_typed() -> None:
    assert beta("method=dkd", "pair=vgg13_vgg8") == 6
    assert beta("method=dkd", "pair=resnet56_resnet20") == 2
    assert beta("method=dkd", "pair=resnet50_vgg8") == 8  # none in the paper
    assert beta("method=dkd", "pair=custom", "pair.teacher=vgg13", "pair.student=vgg8") == 6
    assert beta("method=dkd", "pair=vgg13_vgg8", "method.weights.nckd=3") == 3
    assert beta("method=dkd", "pair=vgg13_vgg8", "method.weights.nckd=8") == 8  # the default, but typed
    assert beta("method=dkd", "pair=vgg13_vgg8", "method.weights.ce=2") == 6
    assert beta("methods=[dkd]", "pair=vgg13_vgg8") == 6
    assert beta("methods=[{name: dkd, weights: {nckd: 3}}]", "pair=vgg13_vgg8") == 3
    assert beta("methods=[{name: dkd, weights: {tckd: 3}}]", "pair=vgg13_vgg8") == 6


VARIANTS_BY_PAIR = [(name, {}) for name in available() if get(name).config_class.by_pair] + [
    (name, dict([variant])) for name in available() for variant in get(name).config_class.by_pair_with
]


@pytest.mark.parametrize(("name", "variant"), VARIANTS_BY_PAIR)
def test_a_papers_settings_are_for_pairs_and_fields_that_there_are(name: str, variant: dict[str, Any]) -> None:
    config = get(name).config_class
    by_pair = config.by_pair_with[next(iter(variant.items()))] if variant else config.by_pair
    for pair, settings in by_pair.items():
        changed = configure(name, **variant).for_pair(pair, ())
        assert pair in PAIRS or (variant and pair == "")
        assert settings
        for key, value in settings.items():
            field, _, term = key.partition(".")
            assert (getattr(changed, field)[term] if term else getattr(changed, field)) == value


def test_a_pairs_settings_are_those_of_the_variant() -> None:
    def weight(*words: str) -> float:
        _, (variant,) = resolved("method=ttm", "pair=vgg13_vgg8", *words)
        return variant.method.weights["ttm"]

    assert weight() == 45
    assert weight("method.weighted=true") == 2.25
    assert weight("method.weighted=true", "method.weights.ttm=45") == 45  # the other variant's, but typed


def test_a_variants_settings_are_there_on_any_pair() -> None:
    assert configure("cc", form="adjacent").weights["cc"] == 0.02
    assert configure("cc", form="adjacent", weights={"cc": 100}).weights["cc"] == 100  # given
    _, (variant,) = resolved("methods=[{name: cc, form: adjacent}]", "pair=vgg13_vgg8")
    assert variant.method.weights["cc"] == 0.02
    _, (variant,) = resolved(
        "method=ttm", "method.weighted=true", "pair=custom", "pair.teacher=vgg13", "pair.student=resnet8"
    )
    assert variant.method.weights["ttm"] == 2.25


def test_what_is_typed_of_a_method_replaces_its_defaults() -> None:
    _, (variant,) = resolved(*KD, "method.temperature=2", "method.weights.kd=3", "method.label=soft")
    settings = {"name": "kd", "label": "soft", "weights": {"ce": 0.1, "kd": 3.0}, "temperature": 2.0}
    assert plain(variant.method) == settings | {"standardise": False}


def test_a_variant_may_have_a_loss_schedule_of_its_own() -> None:
    own = "{name: aftkd, label: waning, loss: {schedule: cosine, end: 0.5}}"
    _, (plain_one, waning, fixed) = resolved(
        f"methods=[aftkd,{own},{{name: aftkd, label: fixed, loss: {{schedule: fixed}}}}]", "loss.windows=30", *SMALL
    )
    assert (plain_one.schedule, waning.schedule, fixed.schedule) == ("adaptive", "cosine", "fixed")
    assert (waning.loss.start, waning.loss.end) == (1.0, 0.5)
    assert plain_one.loss.windows == 30  # the command's, which cannot act on the other two


def test_a_loss_setting_must_act_where_it_is_given_even_if_it_acts_elsewhere() -> None:
    message = refused("methods=[aftkd,{name: kd, loss: {windows: 30}}]", *SMALL)
    assert "loss.windows=30" in message
    assert "no effect" in message
    assert "kd" in message


@pytest.mark.parametrize(
    "methods",
    [
        "[kd,kd]",
        "[kd,{name: kd, temperature: 8}]",
        "[{name: at, label: kd},kd]",
        "[{name: kd, label: x},{name: at, label: x}]",
    ],
)
def test_two_students_of_one_label_are_refused(methods: str) -> None:
    message = refused(f"methods={methods}", *SMALL)
    assert "label" in message
    assert "'x'" in message or "'kd'" in message


@pytest.mark.parametrize("label", ["none", "kd", "teacher", "student alone"])
def test_a_label_by_which_tables_name_other_runs_is_refused(label: str) -> None:
    """A student that was taught would stand there as the student alone, or as the baseline."""
    message = refused(f"methods=[{{name: fitnet, label: {label}}}]", *SMALL)
    assert f"fitnet has the label '{label}'" in message


def test_a_label_may_be_the_methods_own_name() -> None:
    _, (only,) = resolved("methods=[{name: kd, label: kd}]", *SMALL)
    assert only.label == "kd"


@pytest.mark.parametrize(
    ("methods", "parts"),
    [
        ("[kdd]", ("kdd", "kd", "aftkd")),
        ("[{name: kdd}]", ("kdd", "kd", "aftkd")),
        ("[{label: x}]", ("methods", "name")),
        ("[3]", ("methods", "3")),
        ("[[kd]]", ("methods", "kd")),
        ("[{name: kd, temprature: 8}]", ("methods", "kd", "temprature", "closest: temperature")),
        ("[{name: kd, temperature: hot}]", ("methods", "kd", "hot")),
        ("[{name: aftkd, block_size: [[]]}]", ("methods", "aftkd", "block_size=[[]]", "list of int")),
        ("[{name: kd, loss: cosine}]", ("methods", "kd", "loss=cosine", "schedule")),
        ("[{name: kd, loss: 0}]", ("methods", "kd", "loss=0", "schedule")),
        ("[{name: kd, loss: null}]", ("methods", "kd", "loss=None", "schedule")),
        ("[{name: kd, loss: {schedul: cosine}}]", ("methods", "kd", "schedul", "schedule")),
        ("[{name: kd, loss: {schedule: sudden}}]", ("methods", "kd", "sudden", "cosine")),
    ],
)
def test_variants_that_cannot_be_are_refused_with_what_would_do(methods: str, parts: tuple[str, ...]) -> None:
    message = refused(f"methods={methods}", *SMALL)
    for part in parts:
        assert part in message


# --- settings that cannot act


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (("method=kd", "method.weights.kd=0", "method.temperature=2"), "method.temperature"),
        (("method=kd", "method.weights.kd=0", "method.temperature=4"), "method.temperature"),  # even its default
        (("method=aftkd", "method.content=features", "method.degree=0.3"), "method.degree"),
        (("method=aftkd", "method.content=features", "method.p=1"), "method.p"),
        (("methods=[{name: kd, weights: {kd: 0}, temperature: 2}]",), "temperature"),
        (("method=kd", "loss.start=0.5"), "loss.start"),
        (("method=kd", "loss.end=0"), "loss.end"),  # its default
        (("method=kd", "loss.temperature=1"), "loss.temperature"),
        (("method=kd", "loss.schedule=linear", "loss.windows=30"), "loss.windows"),
        (("method=aftkd", "loss.schedule=fixed", "loss.rate=first"), "loss.rate"),
        (("method=aftkd", "loss.start=0.5"), "loss.start"),
        (("methods=[kd,at]", "loss.temperature=1"), "loss.temperature"),
    ],
)
def test_a_setting_that_cannot_act_is_refused(line: tuple[str, ...], key: str) -> None:
    message = refused(*line, *SMALL)
    assert key in message
    assert "no effect" in message
    assert "acts only" in message


@pytest.mark.parametrize(
    "line",
    [
        ("method=kd", "method.temperature=4"),
        ("method=kd", "loss.schedule=linear", "loss.start=0.5"),
        ("method=aftkd", "loss.temperature=1"),  # adaptive is its own choice
        ("methods=[kd,aftkd]", "loss.temperature=1"),  # acts on one of them
        ("method=aftkd", "method.content=attention", "method.p=2"),
    ],
)
def test_a_setting_that_can_act_is_taken(line: tuple[str, ...]) -> None:
    resolved(*line, *SMALL)


# --- the machine and the environment


def test_the_environment_names_the_folder_of_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_DATA", "/some/where")
    assert run_of().data.root == "/some/where"
    assert run_of("data.root=here").data.root == "here"


def test_a_path_that_no_record_can_name_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KD_DATA", str(tmp_path / "\udcff"))
    assert "data.root=" in (message := refused(*KD))
    assert "not UTF-8" in message
    monkeypatch.delenv("KD_DATA")
    (tmp_path / "\udcff").mkdir()
    monkeypatch.chdir(tmp_path / "\udcff")
    assert "not UTF-8" in refused(*KD)


def test_the_cache_lies_in_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert Path(run_of().data.cache) == Path("/home/someone/.cache/kd-benchmarks")
    monkeypatch.setenv("XDG_CACHE_HOME", "/scratch/cache")
    assert Path(run_of().data.cache) == Path("/scratch/cache/kd-benchmarks")


@pytest.mark.parametrize("mode", list(Mode))
def test_the_environment_chooses_the_mode_of_tracking(monkeypatch: pytest.MonkeyPatch, mode: Mode) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    assert run_of().tracking.mode == mode
    assert run_of("tracking.mode=disabled").tracking.mode == Mode.disabled


def test_a_wandb_mode_that_is_none_is_refused_unless_another_is_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "onlin")
    message = refused(*KD)
    assert "WANDB_MODE=onlin" in message
    assert "offline, online, disabled" in message
    # What was typed goes before it, so it does not matter.
    assert run_of("tracking.mode=offline").tracking.mode == Mode.offline


@pytest.mark.parametrize("name", ["KD_DATA", "WANDB_MODE", "XDG_CACHE_HOME"])
def test_an_empty_variable_is_one_not_set(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    expected = run_of()
    monkeypatch.setenv(name, "")
    assert run_of() == expected


def machine(
    monkeypatch: pytest.MonkeyPatch, *, cuda: bool, bf16: bool, capability: tuple[int, int] = (8, 0)
) -> RunConfig:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: cuda and bf16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: not cuda and bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return run_of()


def test_beside_a_gpu_a_run_is_the_same_on_any_number_of_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for cores in (2, 16):
        monkeypatch.setattr(torch, "get_num_threads", lambda cores=cores: cores)
        found.append([machine(monkeypatch, cuda=cuda, bf16=True).train for cuda in (True, False)])
    assert found[0][0] == found[1][0]
    assert [train.threads for _, train in found] == [2, 16]


@pytest.mark.parametrize("bf16", [True, False])
def test_a_cpu_computes_in_bf16_where_it_can_and_as_typed(monkeypatch: pytest.MonkeyPatch, bf16: bool) -> None:
    train = machine(monkeypatch, cuda=False, bf16=bf16).train
    assert (train.device, train.precision) == (Device.cpu, Precision.bf16 if bf16 else Precision.fp32)
    assert run_of("train.precision=fp32").train.precision == Precision.fp32
    assert run_of("train.precision=bf16").train.precision == Precision.bf16


def test_a_gpu_that_computes_in_bf16_does(monkeypatch: pytest.MonkeyPatch) -> None:
    train = machine(monkeypatch, cuda=True, bf16=True).train
    assert (train.device, train.precision) == (Device.cuda, Precision.bf16)


def test_a_gpu_that_only_emulates_bf16_computes_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    train = machine(monkeypatch, cuda=True, bf16=False, capability=(7, 5)).train
    assert (train.device, train.precision) == (Device.cuda, Precision.fp32)


def test_the_cpu_beside_a_gpu_is_taken_where_it_is_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, cuda=True, bf16=True)
    train = run_of("train.device=cpu").train
    assert (train.device, train.precision) == (Device.cpu, Precision.fp32)


def test_cuda_where_there_is_none_is_refused() -> None:
    assert "train.device=cuda" in refused(*KD, "train.device=cuda")


# --- values


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("train.epochs", [0, -1]),
        ("train.batch_size", [0, -64, 2**63]),
        ("train.threads", [0, -1, 1025]),
        ("train.max_steps", [0, -1]),
        ("train.lr", [0, -0.1, "inf", "nan", 1e39]),
        ("train.momentum", [-0.1, 1, "nan"]),
        ("train.weight_decay", [-1e-4, "inf", "nan", 1e39]),
        ("train.decay", [0, -1, 1.5, "nan"]),
        ("train.milestones", ["[0]", "[4]", "[3,2]", "[2,2]", "[-1]"]),
        ("data.validation", [-0.1, 1, 1.5, "nan"]),
        ("teacher.epochs", [0, -3]),
        ("seed", [-1, 2**63]),
        ("teacher.seed", [-1]),
        ("checkpoint.every_steps", [0, -1]),
        ("tracking.project", ["a/b", "a:b", "a" * 129]),
        ("output", ["a" * 300]),
        ("data.root", ["a" * 300]),
        ("data.cache", ["a" * 300]),
        ("teacher.root", ["a" * 300]),
        ("teacher.checkpoint", ["a" * 300]),
    ],
)
def test_values_that_cannot_work_are_refused_by_the_name_of_their_key(key: str, values: list[Any]) -> None:
    for value in values:
        message = refused(*KD, f"{key}={value}")
        assert f"{key}=" in message, (key, value, message)


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["method=crd", f"method.num_negatives={2**63}"], "method.num_negatives"),
        ([f"methods=[{{name: crd, num_negatives: {2**63}}}]"], "methods.num_negatives"),
    ],
)
def test_numbers_of_a_method_have_63_bits_at_most(words: list[str], key: str) -> None:
    assert f"{key}={2**63} has more than 63 bits" in refused("pair=vgg13_vgg8", *words)


# --- published figures


def test_published_figures_of_a_pair_are_those_of_the_papers() -> None:
    found = {
        method: figure.top1
        for method in ("teacher", "student", "kd", "fitnet", "at", "crd", "ickd", "ttm")
        if (figure := published.find("cifar100", "vgg13", "vgg8", method))
    }
    # Tian et al., ICLR 2020, table 1.
    crds = {"teacher": 74.64, "student": 70.36, "kd": 72.98, "fitnet": 71.02, "at": 71.43, "crd": 73.94}
    # Of ICKD the row without soft targets, of TTM the one without weights: what these names mean here.
    assert found == crds | {"ickd": 73.42, "ttm": 74.33}


@pytest.mark.parametrize(
    "wanted",
    [
        ("digits", "vgg13", "vgg8", "kd"),
        ("cifar100", "vgg8", "vgg13", "kd"),
        ("cifar100", "vgg13", "vgg8", "aftkd"),
        ("cifar100", "vgg13", "vgg8", "KD"),
    ],
)
def test_nothing_is_published_of_what_no_paper_has(wanted: tuple[str, str, str, str]) -> None:
    assert published.find(*wanted) is None


def test_every_pair_of_the_literature_has_figures() -> None:
    for teacher, student in PAIRS.values():
        assert published.find("cifar100", teacher, student, "kd"), (teacher, student)
        alone = published.find("cifar100", teacher, student, "student")
        above = published.find("cifar100", teacher, student, "teacher")
        assert alone is not None
        assert above is not None
        assert alone.top1 < above.top1


def test_published_figures_are_about_networks_that_there_are() -> None:
    for figure in published.figures():
        assert {figure.teacher, figure.student} <= set(models.available()), figure
        assert 40 < figure.top1 < 90, figure
        assert figure.method == figure.method.lower()
        assert figure.source


def as_logged(pair: str, *words: str) -> dict[str, Any]:
    """What a run's configuration tells of its method."""
    run, (variant,) = resolved(f"pair={pair}", *words)
    specs = specs_of(run.pair, data.INFO["cifar100"])
    student = variant.resolve(run, specs)
    return {"method": plain(student.method), "unusual": as_overrides(beyond_usual(student, specs))}


def pair_of(figure: published.Published) -> str:
    (pair,) = (pair for pair, networks in PAIRS.items() if networks == (figure.teacher, figure.student))
    return pair


FORMS = {(figure.method, figure.settings): figure for figure in published.figures() if figure.settings}


@pytest.mark.parametrize("form", FORMS, ids=" ".join)
def test_published_figures_name_settings_that_there_are(form: tuple[str, str]) -> None:
    figure, pair = FORMS[form], pair_of(FORMS[form])
    words = [f"method.{word}" for word in figure.settings.split()]
    theirs, usual = (as_logged(pair, f"method={figure.method}", *told) for told in (words, ()))
    assert figure.is_of(theirs)
    assert figure.is_of(usual) == (usual == theirs)
    assert not figure.is_of(theirs | {"unusual": [*words, "method.temperature=9.0"]})
    for word in figure.settings.split():
        *group, setting = word.split("=")[0].split(".")
        assert not figure.is_of({"method": {group[0]: {setting: "another"}} if group else {setting: "another"}})
    assert figure.is_of({"method": {}})  # logged before there was a choice


def test_crds_figures_of_hints_are_of_a_regressor_with_a_relu_and_usual_where_that_is() -> None:
    by_teacher = {figure.teacher: figure for figure in published.figures() if figure.method == "fitnet"}
    for figure in by_teacher.values():
        usual, theirs = (
            as_logged(pair_of(figure), "method=fitnet", *told) for told in ([], ["method.activation=relu"])
        )
        assert figure.is_of(theirs), figure
        assert figure.is_of(usual) == (usual["method"]["activation"] == "relu"), figure
    assert {f.settings for f in published.figures() if (f.teacher, f.method) == ("wrn_40_2", "fitnet")} == {
        "activation=relu"
    }


def test_the_first_of_several_sources_is_meant() -> None:
    keys = [(figure.data, figure.teacher, figure.student, figure.method) for figure in published.figures()]
    for figure, key in zip(published.figures(), keys, strict=True):
        found = published.find(*key)
        assert found is published.figures()[keys.index(key)]
        assert abs(found.top1 - figure.top1) < 3
