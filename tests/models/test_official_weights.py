"""Files as their makers publish them: they load, mean the same here, and what is left is named."""

from __future__ import annotations

import re
from pathlib import Path

import plain_tresnet
import pytest
import timm
import torch
import torchvision
from conftest import Outcome, Script
from safetensors.torch import save_file
from torch import Tensor, nn

from models import create_model
from models.backbones import create_backbone, feature_map
from models.pretrained import LoadReport, load_backbone_weights

CLASSIFIER = ["head.fc.weight", "head.fc.bias"]


def _images(count: int, size: int) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def _features(backbone: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return feature_map(backbone.eval(), images)


def _assert_complete(report: LoadReport, unused: list[str]) -> None:
    assert report.missing == report.mismatched == []
    assert set(report.unused) == set(unused)


# TResNet, by Alibaba: ``{"model": ...}`` for ImageNet-1k, ``{"state_dict": ...}`` for 21k.


@pytest.fixture(scope="module")
def tresnet_state() -> dict[str, Tensor]:
    return plain_tresnet.official_state(11221, torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=["model", "state_dict"])
def tresnet_file(
    request: pytest.FixtureRequest,
    tresnet_state: dict[str, Tensor],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    path = tmp_path_factory.mktemp("tresnet") / "tresnet_m.pth"
    torch.save({request.param: tresnet_state, "epoch": 300}, path)
    return path


def _timm_tensor(name: str, value: Tensor) -> tuple[str, Tensor]:
    """Where timm keeps a tensor of TResNet, and what it holds there."""
    name = name.replace("body.SpaceToDepth", "body.s2d")
    in_pair = re.fullmatch(r"(.*(?:conv\d|downsample\.\d))(?:\.0)?\.([01])\.(\w+)", name)
    if in_pair is None:
        return name, value
    outer, number, part = in_pair.groups()
    if number == "0":
        return f"{outer}.conv.{part}", value
    return f"{outer}.bn.{part}", value.abs() + 1e-5 if part == "weight" else value


def test_official_tresnet_files_load(tresnet_file: Path, tresnet_state: dict[str, Tensor]) -> None:
    backbone = create_backbone("tresnet_m")
    _assert_complete(load_backbone_weights(backbone, tresnet_file), CLASSIFIER)
    expected = dict(_timm_tensor(name, value) for name, value in tresnet_state.items())
    own = backbone.state_dict()
    assert set(own) == set(expected) - set(CLASSIFIER)
    assert all(torch.equal(value, expected[name]) for name, value in own.items())
    images = _images(2, 64)
    plain = plain_tresnet.features(tresnet_state, images)
    assert plain.abs().max() > 1
    torch.testing.assert_close(_features(backbone, images), plain, atol=1e-4, rtol=1e-4)


def test_official_tresnet_files_keep_their_weights_in_in_place_abn(
    tresnet_file: Path, tresnet_state: dict[str, Tensor]
) -> None:
    pytest.importorskip("inplace_abn")
    with pytest.warns(UserWarning, match="have no counterpart in the backbone"):
        model = create_model("tresnet_m", 3, norm="inplace-abn", model_path=tresnet_file)
    for name in ("body.conv1", "body.layer2.3.conv2", "body.layer4.0.downsample.1"):
        weight = model.backbone.get_parameter(f"{name}.bn.weight")
        torch.testing.assert_close(weight.detach(), tresnet_state[f"{name}.1.weight"].abs())
    images = _images(2, 64)
    plain = plain_tresnet.features(tresnet_state, images)
    torch.testing.assert_close(_features(model.backbone, images), plain, atol=1e-4, rtol=1e-4)


def _with_statistics(network: nn.Module) -> nn.Module:
    """Batch norms as after training: gains of either sign, statistics away from 0 and 1."""
    torch.manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            count = module.num_features
            module.weight = nn.Parameter(torch.rand(count) * 1.4 - 0.6)
            module.bias = nn.Parameter(torch.rand(count) * 0.4 - 0.2)
            module.running_mean = torch.rand(count) * 0.4 - 0.2
            module.running_var = torch.rand(count) + 0.5
    return network


def test_gains_of_ordinary_batch_norm_keep_their_sign(tmp_path: Path) -> None:
    """timm's own TResNet files hold batch norm: nothing is to be added to their gains."""
    source = _with_statistics(timm.create_model("tresnet_m")).state_dict()
    save_file(source, tmp_path / "tresnet_m.safetensors")
    backbone = create_backbone("tresnet_m")
    _assert_complete(
        load_backbone_weights(backbone, tmp_path / "tresnet_m.safetensors"), CLASSIFIER
    )
    assert source["body.conv1.bn.weight"].min() < 0
    assert all(torch.equal(value, source[name]) for name, value in backbone.state_dict().items())


# ResNet, by torchvision and timm: batch norm under the same names.


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet101"])
def test_torchvision_resnets_load(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = _with_statistics(torchvision.models.get_model(name)).eval()
    torch.save(network.state_dict(), tmp_path / f"{name}.pth")
    backbone = create_backbone(name)
    report = load_backbone_weights(backbone, tmp_path / f"{name}.pth")
    _assert_complete(report, ["fc.weight", "fc.bias"])
    maps: list[Tensor] = []
    network.get_submodule("layer4").register_forward_hook(lambda _m, _i, out: maps.append(out))
    with torch.no_grad():
        network(_images(2, 64))
    assert maps[0].abs().max() > 0
    scale = maps[0].abs().max().item()
    found = _features(backbone, _images(2, 64))
    torch.testing.assert_close(found, maps[0], atol=1e-5 * scale, rtol=1e-4)


def test_timm_resnets_load(tmp_path: Path) -> None:
    network = _with_statistics(timm.create_model("resnet18", num_classes=1000)).eval()
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    torch.save({"arch": "resnet18", "state_dict_ema": state, "state_dict": {}}, tmp_path / "r.pth")
    backbone = create_backbone("resnet18")
    _assert_complete(load_backbone_weights(backbone, tmp_path / "r.pth"), ["fc.weight", "fc.bias"])
    with torch.no_grad():
        expected = network.forward_features(_images(2, 64))  # type: ignore[operator]
    torch.testing.assert_close(_features(backbone, _images(2, 64)), expected)


# Swin, by Microsoft: ``{"model": ...}``, with masks and indices; a stage ends with its merging.

DEPTHS = (2, 2, 2, 2)  # of the base model with fewer blocks in its third stage


def _official_swin() -> dict[str, Tensor]:
    """Names and shapes of ``swin_base_patch4_window7_224_22k.pth``."""
    generator = torch.Generator().manual_seed(4)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator) * 0.02

    def norm(name: str, width: int) -> dict[str, Tensor]:
        return {f"{name}.weight": 1 + noise(width), f"{name}.bias": noise(width)}

    def linear(name: str, inputs: int, outputs: int) -> dict[str, Tensor]:
        return {f"{name}.weight": noise(outputs, inputs), f"{name}.bias": noise(outputs)}

    state = {"patch_embed.proj.weight": noise(128, 3, 4, 4), "patch_embed.proj.bias": noise(128)}
    state |= norm("patch_embed.norm", 128)
    for stage, depth in enumerate(DEPTHS):
        width, heads, windows = 128 * 2**stage, 4 * 2**stage, (56 // 2**stage // 7) ** 2
        for number in range(depth):
            block = f"layers.{stage}.blocks.{number}"
            if number % 2 and windows > 1:  # blocks of shifted windows
                state[f"{block}.attn_mask"] = torch.zeros(windows, 49, 49)
            state |= norm(f"{block}.norm1", width)
            state[f"{block}.attn.relative_position_bias_table"] = noise(169, heads)
            state[f"{block}.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.long)
            state |= linear(f"{block}.attn.qkv", width, 3 * width)
            state |= linear(f"{block}.attn.proj", width, width)
            state |= norm(f"{block}.norm2", width)
            state |= linear(f"{block}.mlp.fc1", width, 4 * width)
            state |= linear(f"{block}.mlp.fc2", 4 * width, width)
        if stage < 3:
            state[f"layers.{stage}.downsample.reduction.weight"] = noise(2 * width, 4 * width)
            state |= norm(f"layers.{stage}.downsample.norm", 4 * width)
    state |= norm("norm", 1024)
    state["head.weight"] = torch.zeros(1, 1).expand(21841, 1024)
    state["head.bias"] = torch.zeros(1).expand(21841)
    return state


def test_official_swin_files_load(tmp_path: Path) -> None:
    state = _official_swin()
    torch.save({"model": state}, tmp_path / "swin.pth")
    backbone = create_backbone("swin_b_224_22k", image_size=224, depths=DEPTHS)
    _assert_complete(load_backbone_weights(backbone, tmp_path / "swin.pth"), CLASSIFIER)
    reference = timm.create_model("swin_base_patch4_window7_224", num_classes=0, depths=DEPTHS)
    renamed = {
        # timm begins a stage with the merging that Microsoft ends the stage before with.
        re.sub(
            r"^layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) + 1}.downsample", name
        ): v
        for name, v in state.items()
        if not name.endswith(("attn_mask", "relative_position_index"))
        and not name.startswith("head.")
    }
    reference.load_state_dict(renamed)
    with torch.no_grad():
        expected = reference.eval().forward_features(_images(1, 224)).permute(0, 3, 1, 2)
    assert expected.std() > 0.1
    torch.testing.assert_close(_features(backbone, _images(1, 224)), expected)


# What does not match, through the command line.


def _train(
    run_here: Script, data: Path, backbone_name: str, weights: Path, output: Path
) -> Outcome:
    return run_here(
        *("train.py", "--img_dir", data / "images", "--csv_path", data / "splits.csv"),
        *("--backbone-name", backbone_name, "--model-path", weights, "--output-path", output),
        *("--image-size", 64, "--epochs", 1, "--batch-size", 4, "--workers", 0),
        *("--subsampling", "--sub-h", 2, "--sub-w", 2, "--min-superpixels", 2, "--device", "cpu"),
    )


def test_training_names_the_tensors_that_do_not_match(
    tiny_set: Path, run_here: Script, tmp_path: Path
) -> None:
    state = torchvision.models.resnet18().state_dict()
    del state["layer2.0.bn1.bias"]
    state["layer3.1.conv2.weight"] = state["layer3.1.conv2.weight"][:, :7]
    torch.save(state, tmp_path / "resnet18.pth")
    done = _train(run_here, tiny_set, "resnet18", tmp_path / "resnet18.pth", tmp_path / "out")
    assert done.status == 0, done.errors
    notes = [line for line in done.printed.splitlines() if line.startswith("Note:")]
    assert "lacks 2 of the backbone's tensors" in notes[0]
    assert notes[0].endswith("initial values: layer2.0.bn1.bias, layer3.1.conv2.weight.")
    assert notes[1].startswith("Note: 2 tensors of")
    assert notes[1].endswith("have no counterpart in the backbone: fc.weight, fc.bias.")


@pytest.mark.parametrize("backbone_name", ["resnet18", "swin_tiny_patch4_window7_224", "tresnet_l"])
def test_training_refuses_a_file_that_matches_nothing(
    backbone_name: str, tresnet_file: Path, tiny_set: Path, run_here: Script, tmp_path: Path
) -> None:
    done = _train(run_here, tiny_set, backbone_name, tresnet_file, tmp_path / "out")
    assert done.status == 2
    assert len(done.errors.strip().splitlines()) == 1
    assert str(tresnet_file) in done.errors
    assert "another architecture?" in done.errors
    assert not (tmp_path / "out").exists()
