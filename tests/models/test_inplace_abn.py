"""In-place ABN for TResNet: what needs no package, and the real package where it is installed."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, Script
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from helper_functions.checkpoints.checkpoint import load_model, read_checkpoint, save_checkpoint
from models import create_model
from models.backbones import create_backbone, feature_map
from models.inplace_abn import BUILD_COMMANDS, use_inplace_abn

SMALL = (
    *("--backbone-name", "tresnet_m", "--image-size", 64),
    *("--device", "cpu", "--epochs", 1, "--workers", 0, "--batch-size", 4),
    *("--subsampling", "--sub-h", 2, "--sub-w", 2, "--min-superpixels", 2),
)
EPS = 1e-5


def _data(folder: Path) -> tuple[object, ...]:
    return ("--img_dir", folder / "images", "--csv_path", folder / "splits.csv")


def _absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``import inplace_abn`` fail as where nothing is installed."""
    monkeypatch.setitem(sys.modules, "inplace_abn", None)


def _randomise(backbone: nn.Module, negative: float = 0.3) -> nn.Module:
    """Batch norms as after training: every gain away from 0, a share of them negative."""
    torch.manual_seed(1)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            sign = torch.where(torch.rand(module.num_features) < negative, -1.0, 1.0)
            nn.init.uniform_(module.weight, 0.3, 0.9).data.mul_(sign)
            nn.init.uniform_(module.bias, -0.3, 0.3)
            module.running_mean = torch.rand(module.num_features) * 0.6 - 0.3
            module.running_var = torch.rand(module.num_features) + 0.5
    return backbone


def _images(count: int, size: int) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("tresnet_m", r"needs the package inplace-abn, which cannot be imported here \(.+\)"),
        ("resnet18", r"is for TResNet backbones .* this one is a ResNet; choose norm 'default'"),
    ],
)
def test_unusable_in_place_abn_gets_a_sentence(
    name: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _absent(monkeypatch)
    with pytest.raises(ValueError, match=sentence) as error:
        create_model(name, 3, norm="inplace-abn")
    named = [command in str(error.value) for command in BUILD_COMMANDS]
    assert named == [name == "tresnet_m"] * 2


def test_an_unknown_norm_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Unknown norm 'abn'; choose default or inplace-abn\."):
        create_model("tresnet_m", 3, norm="abn")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--norm", "inplace-abn"), f"`{BUILD_COMMANDS[0]}` and then `{BUILD_COMMANDS[1]}`."),
        (("--norm", "inplace-abn", "--amp", "bf16"), "choose --amp off, or --norm default"),
        (("--norm", "abn"), "invalid choice: 'abn'"),
    ],
)
def test_training_refuses_in_place_abn_that_cannot_be(
    flags: tuple[str, ...],
    sentence: str,
    tiny_set: Path,
    run_here: Script,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _absent(monkeypatch)
    output = tmp_path / "out"
    done = run_here("train.py", *_data(tiny_set), *SMALL, *flags, "--output-path", output)
    assert done.status == 2
    assert sentence in done.errors
    assert len(done.errors.strip().splitlines()) == 1
    assert not output.exists()


def test_the_readme_gives_the_commands_of_the_message() -> None:
    readme = (ROOT / "models" / "README.md").read_text(encoding="utf-8")
    assert "\n".join(BUILD_COMMANDS) in readme
    assert (ROOT / BUILD_COMMANDS[1].split()[-1]).read_text().strip().endswith("inplace-abn==1.1.0")


def test_checkpoints_of_in_place_abn_load_without_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _absent(monkeypatch)
    torch.manual_seed(0)
    model = create_model("tresnet_m", 3).eval()
    _randomise(model.backbone, negative=0)
    state = model.state_dict()
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):  # either sign of a weight gives the same gain
            weight = module.weight.detach() - EPS
            state[f"{name}.weight"] = torch.where(torch.rand_like(weight) < 0.5, weight, -weight)
    settings = {**model.settings, "norm": "inplace-abn"}
    save_checkpoint(tmp_path / "m.ckpt", {"settings": settings, "model": state})
    loaded = load_model(tmp_path / "m.ckpt")
    with torch.no_grad():
        torch.testing.assert_close(loaded(_images(2, 64)), model(_images(2, 64)))
    assert loaded.settings == model.settings


# With the package: equal to ordinary batch norm, in less memory.


def _pair(dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    """A TResNet with ordinary batch norm, and the same one converted."""
    backbones = [_randomise(create_backbone("tresnet_m")).to(dtype) for _ in range(2)]
    backbones[1].load_state_dict(backbones[0].state_dict())
    use_inplace_abn(backbones[1])
    return backbones[0], backbones[1]


def _signs(backbone: nn.Module) -> dict[str, Tensor]:
    """What the conversion turns, by name of the tensor: the channels of negative gains."""
    signs = {}
    for name, module in backbone.named_modules():
        if isinstance(module, BatchNormAct2d):
            sign = torch.where(module.weight < 0, -1.0, 1.0)
            signs[f"{name}.weight"] = signs[f"{name}.running_mean"] = sign
            signs[f"{name.removesuffix('bn')}conv.weight"] = sign[:, None, None, None]
    return signs


def test_every_batch_norm_becomes_in_place_abn() -> None:
    abn = pytest.importorskip("inplace_abn")
    plain, converted = _pair(torch.float32)
    before = {n: m for n, m in plain.named_modules() if isinstance(m, nn.BatchNorm2d)}
    after = {n: m for n, m in converted.named_modules() if isinstance(m, abn.InPlaceABN)}
    assert list(before) == list(after)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in converted.modules())
    slopes = {m.activation_param for m in after.values() if m.activation == "leaky_relu"}
    assert slopes == {1e-2, 1e-3}  # the stem's and the blocks'
    assert list(plain.state_dict()) == list(converted.state_dict())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_converted_weights_score_alike(layout: torch.memory_format) -> None:
    pytest.importorskip("inplace_abn")
    images = _images(2, 96).to(memory_format=layout)
    plain, converted = (backbone.to(memory_format=layout) for backbone in _pair(torch.float32))
    with torch.no_grad():
        expected = feature_map(plain.eval(), images)
        found = feature_map(converted.eval(), images)
    assert expected.abs().max() > 1
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_a_training_step_gives_the_same_gradients_and_statistics() -> None:
    """In float64, where only the arithmetic counts; the package holds eps in float32."""
    pytest.importorskip("inplace_abn")
    plain, converted = _pair(torch.float64)
    signs = _signs(plain)
    images = _images(4, 64).double()
    gradients = []
    for backbone in (plain, converted):
        features = feature_map(backbone.train(), images)
        weights = torch.linspace(-1, 1, features.numel(), dtype=torch.float64)
        loss = (features.flatten() * weights).sum()
        gradients.append(torch.autograd.grad(loss, list(backbone.parameters())))
    names = [name for name, _ in plain.named_parameters()]
    for name, expected, found in zip(names, *gradients, strict=True):
        turned = expected * signs.get(name, torch.ones(1)).double()
        scale = turned.abs().max().item()
        assert scale > 0
        torch.testing.assert_close(found, turned, atol=1e-6 * scale, rtol=1e-6, msg=name)
    statistics = dict(converted.named_buffers())
    for name, buffer in plain.named_buffers():
        turned = buffer * signs[name].double() if name in signs else buffer
        torch.testing.assert_close(statistics[name], turned, atol=1e-6, rtol=1e-6, msg=name)


def test_gains_of_zero_start_at_eps_and_learn() -> None:
    pytest.importorskip("inplace_abn")
    backbone = create_backbone("tresnet_m")
    use_inplace_abn(backbone)
    weight = backbone.get_parameter("body.layer1.0.conv2.bn.weight")
    assert weight.abs().max() == 0
    loss = feature_map(backbone, _images(4, 64)).square().sum()
    (gradient,) = torch.autograd.grad(loss, [weight])
    assert gradient.abs().max() > 0


def _kept_for_backward(backbone: nn.Module, images: Tensor) -> int:
    """Bytes of activations that a forward pass keeps, every storage counted once."""
    own = {value.untyped_storage().data_ptr() for value in backbone.state_dict().values()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage  # a storage in use: its address is not given twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        feature_map(backbone.train(), images)
    return sum(storage.nbytes() for storage in kept.values())


def test_activation_memory_is_as_the_readme_says() -> None:
    pytest.importorskip("inplace_abn")
    readme = (ROOT / "models" / "README.md").read_text(encoding="utf-8")
    told = re.search(r"(\d+) MiB in place of (\d+) MiB", readme)
    assert told is not None
    plain, converted = (_kept_for_backward(each, _images(4, 224)) for each in _pair(torch.float32))
    found = [converted / 2**20, plain / 2**20]
    assert found == pytest.approx([float(figure) for figure in told.groups()], rel=0.01)


def test_checkpointed_activations_give_the_same_gradients() -> None:
    pytest.importorskip("inplace_abn")
    _, backbone = _pair(torch.float64)
    gradients = []
    for checkpointed in (False, True):
        backbone.set_grad_checkpointing(checkpointed)  # type: ignore[operator]
        loss = feature_map(backbone.train(), _images(4, 64).double()).square().sum()
        gradients.append(torch.autograd.grad(loss, list(backbone.parameters())))
    for kept, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(kept, recomputed)


def test_a_model_trains_with_it_and_is_validated_without_it(
    tiny_set: Path, run_here: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("inplace_abn")
    trained = run_here(
        *("train.py", *_data(tiny_set), *SMALL, "--norm", "inplace-abn", "--channels-last"),
        *("--output-path", tmp_path),
    )
    assert trained.status == 0, trained.errors
    with (tmp_path / "log.csv").open(newline="") as file:
        best = float(next(csv.DictReader(file))["val_mAP"])
    assert read_checkpoint(tmp_path / "last.ckpt")["settings"]["norm"] == "inplace-abn"
    _absent(monkeypatch)
    checkpoint = tmp_path / "model-highest.ckpt"
    done = run_here("val.py", "--ckpt-path", checkpoint, *_data(tiny_set), "--workers", 0)
    assert done.status == 0, done.errors
    metrics = json.loads((tmp_path / "val" / "metrics.json").read_text())
    assert metrics["mAP"] == pytest.approx(best, abs=1e-4)
