"""Checkpoints: every format gives the same network, and no file runs code or ends in a traceback."""

import argparse
import os
import pickle
import re
import shlex
import warnings
from collections import OrderedDict
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from benchmarks import models, weight_files
from benchmarks.errors import UserError
from benchmarks.models import Network
from benchmarks.tensors import write_tensors
from benchmarks.weight_files import Checkpoint, load_network

NAME, NUM_CLASSES = "resnet8", 10
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def network() -> Network:
    """A network whose buffers are not at their initial values either."""
    torch.manual_seed(0)
    network = models.create(NAME, NUM_CLASSES)
    with torch.no_grad():
        network(torch.randn(8, 3, 32, 32))
    return network.eval()


@pytest.fixture(scope="module")
def state(network: Network) -> State:
    return network.state_dict()


@torch.no_grad()
def logits(network: Network) -> Tensor:
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return network.eval()(images)


def prefixed(state: State) -> State:
    """As `torch.nn.DataParallel` names them."""
    return OrderedDict((f"module.{name}", tensor) for name, tensor in state.items())


def save(content: Any, **options: Any) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path, **options)


def repdistiller(state: State, best_acc: Any) -> dict[str, Any]:
    return {"epoch": 240, "model": state, "best_acc": best_acc}


# Each makes a writer from a state dict.
FORMATS: dict[str, Callable[[State], Callable[[Path], object]]] = {
    "plain": save,
    "plain, not a zip": lambda state: save(state, _use_new_zipfile_serialization=False),
    "plain, DataParallel": lambda state: save(prefixed(state)),
    "model": lambda state: save({"model": state}),
    "model, DataParallel": lambda state: save({"model": prefixed(state)}),
    "state_dict": lambda state: save({"state_dict": state, "epoch": 3}),
    "net": lambda state: save({"net": state, "acc": 93.1, "epoch": 200}),
    "model_state_dict": lambda state: save(
        {
            "model_state_dict": state,
            "optimizer_state_dict": {"state": {0: {"step": torch.ones(1)}}, "param_groups": []},
        }
    ),
    "student, DataParallel": lambda state: save({"student": prefixed(state), "best": torch.tensor(70.0)}),
    "RepDistiller, float": lambda state: save(repdistiller(state, 74.64)),
    "RepDistiller, tensor": lambda state: save(repdistiller(state, torch.tensor(74.64))),
    "mdistiller": lambda state: save(
        {"model": prefixed(state), "epoch": 240, "best_acc": 74.64, "optimizer": {"state": {}, "param_groups": []}}
    ),
}
TENSOR_FORMATS: dict[str, Callable[[State], Callable[[Path], object]]] = {
    "safetensors": lambda state: lambda path: safetensors.torch.save_file(state, path),
    "safetensors, DataParallel": lambda state: lambda path: safetensors.torch.save_file(prefixed(state), path),
}


@pytest.mark.parametrize("name", FORMATS | TENSOR_FORMATS)
def test_every_format_gives_the_same_network(tmp_path: Path, network: Network, state: State, name: str) -> None:
    path = tmp_path / ("weights.safetensors" if name in TENSOR_FORMATS else "weights.pth")
    (FORMATS | TENSOR_FORMATS)[name](state)(path)
    checkpoint = weight_files.read(path)
    assert checkpoint.path == path
    assert checkpoint.state.keys() == state.keys()
    assert torch.equal(logits(load_network(NAME, NUM_CLASSES, checkpoint)), logits(network))


@pytest.mark.parametrize("best_acc", [74.64, torch.tensor(74.64), torch.tensor([74.64])], ids=["float", "0d", "1d"])
def test_the_accuracy_that_a_file_claims_is_read_in_every_form(tmp_path: Path, state: State, best_acc: Any) -> None:
    torch.save(repdistiller(state, best_acc), path := tmp_path / "weights.pth")
    claimed = weight_files.read(path).claimed_top1
    assert isinstance(claimed, float)
    assert claimed == pytest.approx(74.64)


@pytest.mark.parametrize("content", [lambda state: state, lambda state: {"model": state, "epoch": 1}])
def test_a_file_may_claim_nothing(tmp_path: Path, state: State, content: Callable[[State], Any]) -> None:
    torch.save(content(state), path := tmp_path / "weights.pth")
    assert weight_files.read(path).claimed_top1 is None


@pytest.mark.parametrize(
    "best_acc",
    ["74.64 %", [1.0, 2.0], {"top1": 74.64}, torch.tensor([1.0, 2.0])],
    ids=["text", "list", "dict", "two"],
)
def test_a_claim_that_is_no_number_counts_for_none(tmp_path: Path, state: State, best_acc: Any) -> None:
    """The weights are fine: it is as if nothing were claimed."""
    torch.save(repdistiller(state, best_acc), path := tmp_path / "weights.pth")
    assert weight_files.read(path).claimed_top1 is None


def test_what_is_written_in_our_own_format_comes_back(tmp_path: Path, network: Network) -> None:
    path = tmp_path / "folder" / "teacher.safetensors"
    write_tensors(path, network.state_dict(), {"network": NAME, "top1": "91.25"})
    checkpoint = weight_files.read(path)
    assert checkpoint.claimed_top1 == 91.25
    assert torch.equal(logits(load_network(NAME, NUM_CLASSES, checkpoint)), logits(network))
    assert os.listdir(path.parent) == [path.name]


def test_our_own_format_keeps_a_network_that_lies_channels_last(tmp_path: Path, network: Network) -> None:
    moved = deepcopy(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    write_tensors(path := tmp_path / "a.safetensors", moved.state_dict())
    checkpoint = weight_files.read(path)
    assert checkpoint.claimed_top1 is None
    assert torch.equal(logits(load_network(NAME, NUM_CLASSES, checkpoint)), logits(network))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_half_precision_weights_come_as_rounded(
    tmp_path: Path, network: Network, state: State, dtype: torch.dtype, suffix: str
) -> None:
    half = {key: tensor.to(dtype) if tensor.is_floating_point() else tensor for key, tensor in state.items()}
    path = tmp_path / f"half.{suffix}"
    safetensors.torch.save_file(half, path) if suffix == "safetensors" else torch.save(half, path)
    loaded = load_network(NAME, NUM_CLASSES, weight_files.read(path))
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
    rounded = models.create(NAME, NUM_CLASSES)
    rounded.load_state_dict({key: tensor.to(state[key].dtype) for key, tensor in half.items()})
    assert torch.equal(logits(loaded), logits(rounded))
    assert not torch.equal(logits(loaded), logits(network))


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def _not_a_zip(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("suffix", ["pth", "pt", "ckpt"])
@pytest.mark.parametrize("write", [torch.save, _not_a_zip])
def test_a_pickle_with_code_is_refused_unexecuted(
    tmp_path: Path, state: State, write: Callable[[Any, Path], None], suffix: str
) -> None:
    marker, path = tmp_path / "executed", tmp_path / f"weights.{suffix}"
    write({"model": state, "extra": Malicious(marker)}, path)
    with pytest.raises(UserError, match="run code") as caught:
        weight_files.read(path)
    assert not marker.exists()
    assert str(path) in str(caught.value)
    torch.load(path, weights_only=False)  # the trap is armed
    assert marker.exists()


def test_a_bare_pickle_with_code_is_refused_unexecuted(tmp_path: Path) -> None:
    marker, path = tmp_path / "executed", tmp_path / "weights.pth"
    path.write_bytes(pickle.dumps(Malicious(marker)))
    with pytest.raises(UserError, match=re.escape(str(path))), warnings.catch_warnings(record=True) as shown:
        weight_files.read(path)
    assert not shown  # torch has something to say of the pickle's protocol
    assert not marker.exists()
    pickle.loads(path.read_bytes())
    assert marker.exists()


@pytest.mark.parametrize("folder", ["plain", "an odd 'name' of a folder"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda network: {"model": network.state_dict(), "opt": argparse.Namespace(lr=0.05)},
        lambda network: {"state_dict": network.state_dict(), "hyper": argparse.Namespace(lr=0.05)},
        lambda network: {"net": network.state_dict(), "opt": argparse.Namespace(), "log": {"lr": [0.1]}},
        lambda network: network.state_dict() | {"opt": argparse.Namespace()},
        lambda network: network,
        lambda network: {"model": torch.nn.DataParallel(network), "epoch": 3},
    ],
    ids=["model", "state_dict", "net", "plain", "whole", "whole in model"],
)
def test_the_way_out_of_a_refused_file_works(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    network: Network,
    wrap: Callable[[Network], Any],
    folder: str,
) -> None:
    """What the message says to type makes a file that can be read."""
    (tmp_path / folder).mkdir()
    torch.save(wrap(network), path := tmp_path / folder / "weights.pth")
    with pytest.raises(UserError) as caught:
        weight_files.read(path)
    _, _, code = shlex.split(str(caught.value).splitlines()[-1])
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    made = weight_files.read(tmp_path / "weights.pth")
    assert torch.equal(logits(load_network(NAME, NUM_CLASSES, made)), logits(network))


def refused(path: Path) -> str:
    """The message with which a file is refused."""
    with pytest.raises(UserError) as caught:
        weight_files.read(path)
    message = str(caught.value)
    assert str(path) in message
    assert len(message.splitlines()) <= 5
    return message


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"these are no weights\n",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        b"<!DOCTYPE html><html>Not found</html>",
        b'{"model": {}}',
        b"PK\x03\x04 is how a zip begins",
        b"\x89PNG\r\n\x1a\n",
        b"\x80\x02 is how a pickle begins",
        bytes(range(256)) * 8,
        b"\xff" * 64,
    ],
    ids=["empty", "text", "git-lfs", "html", "json", "zip", "png", "pickle", "all-bytes", "ones"],
)
def test_a_file_that_is_no_checkpoint_is_refused_and_no_advice_executes_it(
    tmp_path: Path, content: bytes, suffix: str
) -> None:
    path = tmp_path / f"weights.{suffix}"
    path.write_bytes(content)
    message = refused(path)
    assert "weights_only=False" not in message  # to execute garbage is no way out
    assert "holds Python objects" not in message


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("name", ["plain", "plain, not a zip", "RepDistiller, float", "safetensors"])
def test_a_truncated_file_is_refused(tmp_path: Path, state: State, name: str, part: float) -> None:
    path = tmp_path / ("weights.safetensors" if name in TENSOR_FORMATS else "weights.pth")
    (FORMATS | TENSOR_FORMATS)[name](state)(path)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    assert "weights_only=False" not in refused(path)


def test_a_damaged_file_is_not_to_be_deleted_by_its_owner(tmp_path: Path) -> None:
    """Someone's checkpoint is no cache of ours."""
    (path := tmp_path / "weights.safetensors").write_bytes(b"")
    assert "delete" not in refused(path)


@given(st.binary(max_size=64))
def test_no_bytes_end_in_a_traceback(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("bytes") / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(UserError):
        weight_files.read(path)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors", "folder/weights.pth"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    assert "no such file" in refused(tmp_path / name)


@pytest.mark.parametrize("name", ["folder", "folder.safetensors"])
def test_a_directory_is_no_checkpoint(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert "is a folder" in refused(tmp_path / name)


@pytest.mark.parametrize("content", [b"", b"hello\n", b"accuracy: 3\n", b"these are no weights\n", b"\xff" * 64])
def test_what_is_no_torch_file_is_told_so_in_plain_words(tmp_path: Path, content: bytes) -> None:
    (path := tmp_path / "weights.pth").write_bytes(content)
    assert refused(path) == f"{path} is not a checkpoint: no torch file, and not named .safetensors"


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path := tmp_path / "weights.pth").write_bytes(b"text")

    def refuse(*args: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert "Permission denied" in refused(path)


def test_several_state_dicts_are_named_with_a_way_to_choose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: Network, state: State
) -> None:
    average = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    torch.save({"net": state, "ema": average, "epoch": 3}, path := tmp_path / "several.pth")
    message = refused(path)
    assert "2 state dicts: 'net', 'ema'" in message
    monkeypatch.chdir(tmp_path)
    exec(shlex.split(message.splitlines()[-1])[2], {})
    made = weight_files.read(tmp_path / "weights.pth")
    assert torch.equal(logits(load_network(NAME, NUM_CLASSES, made)), logits(network))


@pytest.mark.parametrize("key", ["model", "state_dict"])
def test_the_usual_keys_come_before_others(tmp_path: Path, network: Network, state: State, key: str) -> None:
    torch.save({"ema": {"weight": torch.zeros(1)}, key: state}, path := tmp_path / "weights.pth")
    assert torch.equal(logits(load_network(NAME, NUM_CLASSES, weight_files.read(path))), logits(network))


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        3.0,
        torch.zeros(3),
        {"model": {}},
        {"model": 3},
        {"epoch": 3, "best_acc": 70.0},
        {"optimizer": {"state": {}}},
        {"model": {"weight": [1.0]}},
    ],
)
def test_a_torch_file_without_weights_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, path := tmp_path / "weights.pth")
    assert "state dict" in refused(path)


def misfit(state: State, name: str, num_classes: int) -> str:
    """The message with which weights are refused for a network."""
    with pytest.raises(UserError) as caught:
        load_network(name, num_classes, Checkpoint(Path("some/weights.pth"), state, None))
    message = str(caught.value)
    assert "some/weights.pth" in message
    assert name in message
    return message


def test_weights_of_another_depth_are_refused_with_an_example_of_what_does_not_fit(state: State) -> None:
    message = misfit(state, "resnet14", NUM_CLASSES)
    assert "is not a resnet14" in message
    assert "layer1.1" in message  # an example of what does not fit


@pytest.mark.parametrize(
    ("name", "num_classes"), [("wrn_16_1", NUM_CLASSES), ("resnet8x4", NUM_CLASSES), ("resnet8x4", 100)]
)
def test_weights_of_another_family_or_width_are_refused(state: State, name: str, num_classes: int) -> None:
    assert f"is not a {name}" in misfit(state, name, num_classes)


def test_an_entry_of_another_shape_is_named_with_both_shapes(state: State) -> None:
    message = misfit(state | {"conv1.weight": torch.zeros(32, 3, 3, 3)}, NAME, NUM_CLASSES)
    assert "is not a resnet8" in message
    assert "conv1.weight" in message
    assert "(32, 3, 3, 3)" in message  # found
    assert "(16, 3, 3, 3)" in message  # expected


def test_weights_for_another_number_of_classes_are_refused(state: State) -> None:
    message = misfit(state, NAME, 100)
    assert "for 10 classes" in message
    assert "100" in message


def test_an_entry_too_few_or_too_many_is_named(state: State) -> None:
    name = next(iter(state))
    assert name in misfit({key: tensor for key, tensor in state.items() if key != name}, NAME, NUM_CLASSES)
    assert "surplus.weight" in misfit(state | {"surplus.weight": torch.zeros(1)}, NAME, NUM_CLASSES)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300], ids=["NaN", "infinite", "not in float32"])
@pytest.mark.parametrize("name", ["layer2.0.conv1.weight", "bn1.running_var"])
def test_weights_that_are_not_finite_are_refused(state: State, name: str, value: float) -> None:
    spoilt = state[name].double()
    spoilt.view(-1)[-1] = value
    with pytest.raises(UserError, match=f"weights.pth: its {name} holds values that are not finite"):
        load_network(NAME, NUM_CLASSES, Checkpoint(Path("weights.pth"), state | {name: spoilt}, None))


def test_a_refusal_changes_no_file(tmp_path: Path) -> None:
    (path := tmp_path / "weights.pth").write_bytes(b"text")
    refused(path)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"text"
