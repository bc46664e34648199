"""The model: backbones by name, both modes, region settings, weights of others."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from conftest import GOLDEN
from safetensors.torch import save_file

from helper_functions.training.run import checkpoint_activations
from loss_functions import AsymmetricLoss, LocalNMSLoss, RegionTagLoss
from loss_functions.region_tags import pool_regions
from models import (
    ARCHITECTURES,
    TrainingOutput,
    VoLUNet,
    VoLUNetConfig,
    build,
    build_for_inference,
    create_model,
)
from models.backbones import ALIASES, create_backbone, feature_map, timm_name
from models.pretrained import load_backbone_weights, read_state_dict
from models.vdsm import pool_superpixels, superpixel_labels
from models.volunet import SCORES

TINY = "resnet10t"  # the smallest residual network of timm with a 7 x 7 map at 224 px


def _model(**settings: Any) -> VoLUNet:
    torch.manual_seed(0)
    return create_model(TINY, 5, **settings)


def _images(count: int = 2, size: int = 128) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def test_evaluation_scores_the_pooled_feature() -> None:
    model = _model().eval()
    with torch.no_grad():
        logits = model(_images())
        features = timm.create_model(TINY, num_classes=0)
        features.load_state_dict(model.backbone.state_dict())
        expected = model.head(features.eval()(_images()))
    assert logits.shape == (2, 5)
    torch.testing.assert_close(logits, expected)


def test_training_scores_the_superpixels_of_the_subsampled_map() -> None:
    model = _model(subsampling=True, sub_h=2, sub_w=3, min_superpixels=2, vdsm="nearest")
    images = _images()
    seen: dict[str, torch.Tensor] = {}
    model.head.register_forward_hook(lambda _m, inputs, out: seen.update(x=inputs[0], y=out))
    output = model(images)
    assert isinstance(output, TrainingOutput)
    assert len(output.region_images) == len(output.region_sizes) == len(output.region_logits)
    assert output.region_sizes[output.region_images == 0].sum() == 2 * 3
    assert output.logits.shape == (2, 5)
    assert 2 * 2 <= len(output.region_logits) <= 2 * 6
    assert len(seen["x"]) == 2 + len(output.region_logits)
    torch.testing.assert_close(torch.cat([output.logits, output.region_logits]), seen["y"])


def test_regions_are_the_means_of_the_superpixels() -> None:
    model = _model(subsampling=True, min_superpixels=6)
    features = torch.rand(3, 8, 7, 7, generator=torch.Generator().manual_seed(0))
    regions, images, sizes = model.region_features(features)
    pooled = torch.nn.functional.adaptive_avg_pool2d(features, (4, 4))
    labels = superpixel_labels(pooled, 6, "released")
    expected = [
        (i, int((labels[i] == k).sum())) for i in range(3) for k in range(int(labels[i].max()) + 1)
    ]
    assert list(zip(images.tolist(), sizes.tolist(), strict=True)) == expected
    torch.testing.assert_close(regions, pool_superpixels(pooled, labels))


@pytest.mark.parametrize("min_superpixels", [0, 49, 60])
def test_without_superpixels_every_cell_of_the_full_map_is_a_region(min_superpixels: int) -> None:
    model = _model(subsampling=True, min_superpixels=min_superpixels)
    features = torch.rand(2, 8, 7, 7)
    regions = model.region_features(features).features
    torch.testing.assert_close(regions[50], features[1, :, 0, 1])
    assert len(regions) == 98


def test_without_subsampling_superpixels_are_computed_on_the_full_map() -> None:
    model = _model(min_superpixels=6)
    features = torch.rand(2, 8, 5, 7)
    regions = model.region_features(features).features
    labels = superpixel_labels(features, 6, "released")
    torch.testing.assert_close(regions, pool_superpixels(features, labels))


def test_padded_and_compact_regions_give_the_same_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU the number of regions stays on the device: rows of padding with weight 0."""
    model = _model(subsampling=True)
    features = torch.rand(3, 8, 7, 7, generator=torch.Generator().manual_seed(0))
    compact = model.region_features(features)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    padded = model.region_features(features)
    assert len(padded.features) == 3 * 16
    present = padded.sizes > 0
    for values, expected in zip(padded, compact, strict=True):
        torch.testing.assert_close(values[present], expected)
    head = torch.nn.Linear(8, 5)
    targets = torch.tensor([[1, 0, 0, 1, 0]] * 3)
    nms, tags = LocalNMSLoss(), RegionTagLoss(AsymmetricLoss(), 4.0)
    for_padded, for_compact = (
        [
            nms(head(regions.features), regions.sizes > 0),
            tags(head(regions.features), regions.images, regions.sizes, targets),
        ]
        for regions in (padded, compact)
    )
    torch.testing.assert_close(for_padded, for_compact)


@pytest.mark.parametrize("sharpness", [0, 2.0, math.inf])
@pytest.mark.parametrize("head", ["kan", "linear"])
def test_scores_from_the_cells_of_the_map(sharpness: float, head: str) -> None:
    """The cells' logits pooled, whatever VDSM does; ``mean`` is that and the released score."""
    settings = {"head": head, "subsampling": True, "region_tag_sharpness": sharpness}
    model = _model(**settings).eval()
    images = _images(3)
    scores = {}
    with torch.no_grad():
        for source in SCORES:
            other = _model(**settings, score_from=source).eval()
            other.load_state_dict(model.state_dict())
            scores[source] = other(images)
            assert torch.equal(other.score_regions(images).logits, scores[source])
        features = feature_map(model.backbone, images)
        cells = model.head(features.flatten(2).transpose(1, 2).flatten(0, 1))
    index = torch.arange(3).repeat_interleave(16)
    expected = pool_regions(cells, index, torch.ones(48), 3, sharpness)
    torch.testing.assert_close(scores["image"], model(images))
    torch.testing.assert_close(scores["regions"], expected)
    torch.testing.assert_close(scores["mean"], (scores["image"] + expected) / 2)


@pytest.mark.parametrize(
    ("settings", "grid"),
    [
        ({"subsampling": True, "sub_h": 3, "sub_w": 2, "min_superpixels": 2}, (3, 2)),
        ({"min_superpixels": 6, "vdsm": "nearest"}, (4, 4)),
        ({"min_superpixels": 0, "subsampling": True}, (4, 4)),
        ({"min_superpixels": 16, "head": "linear"}, (4, 4)),
    ],
)
def test_region_scores_are_the_heads_answers_to_the_means_of_the_regions(
    settings: dict[str, Any], grid: tuple[int, int]
) -> None:
    model = _model(**settings).eval()
    images = _images(3)
    scores = model.score_regions(images)
    with torch.no_grad():
        assert torch.equal(scores.logits, model(images))
        features = feature_map(model.backbone, images)
        regions = model.region_features(features).features
        torch.testing.assert_close(scores.region_logits, model.head(regions))
        cells = torch.nn.functional.adaptive_avg_pool2d(features, grid)
        row = 0
        for image, labels in zip(cells, scores.labels, strict=True):
            assert labels.shape == grid
            assert labels.unique().tolist() == list(range(int(labels.max()) + 1))
            for label in range(int(labels.max()) + 1):
                mean = image[:, labels == label].mean(dim=1)
                torch.testing.assert_close(regions[row], mean)
                row += 1
    assert row == len(scores.region_logits)
    assert not scores.region_logits.requires_grad


def test_gradients_reach_backbone_and_head_through_both_branches() -> None:
    model = _model(subsampling=True)
    weights = [
        model.get_parameter(name)
        for name in ("backbone.conv1.0.weight", "head.layers.0.spline_weight")
    ]
    output = model(_images())
    for logits in (output.logits, output.region_logits):
        gradients = torch.autograd.grad(logits.square().sum(), weights, retain_graph=True)
        assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_checkpointed_activations_give_the_same_gradients() -> None:
    gradients = []
    for checkpointed in (False, True):
        model = _model(subsampling=True)
        if checkpointed:
            checkpoint_activations(model)
        output = model(_images())
        loss = output.logits.square().sum() + output.region_logits.square().sum()
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_settings_rebuild_the_model() -> None:
    model = _model(subsampling=True, vdsm="nearest", min_superpixels=3)
    twin = create_model(**model.settings)
    twin.load_state_dict(model.state_dict())
    assert twin.config == VoLUNetConfig(subsampling=True, vdsm="nearest", min_superpixels=3)
    assert twin.settings == model.settings


@pytest.mark.parametrize("name", ["model-highest.ckpt", "last.ckpt"])
def test_checkpoints_of_an_earlier_version_build_the_same_settings(name: str) -> None:
    content = read_state_dict(GOLDEN / "earlier_version" / name)
    model = build_for_inference("volunet", content["settings"], content["model"])
    released = {"score_from": "image", "region_tag_sharpness": 4.0}
    assert model.settings == {**released, **content["settings"]}
    for key, value in model.state_dict().items():
        assert torch.equal(value, content["model"][key]), key


# Architectures by name


SETTINGS = {
    "volunet": {"backbone_name": TINY, "num_classes": 5, "vdsm": "nearest"},
    "network": {"backbone_name": TINY, "name": "fpn", "num_outputs": 3, "decoder_dropout": 0.1},
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_built_models_tell_how_to_build_them_again(architecture: str) -> None:
    model = build(architecture, SETTINGS[architecture])
    twin = build(model.architecture, model.settings)  # type: ignore[arg-type]
    assert twin.settings == model.settings
    assert model.architecture == architecture
    twin.load_state_dict(model.state_dict())


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"Unknown architecture 'alexnet'; choose one of volunet, netw"
    ):
        build("alexnet", {})


def test_models_for_inference_equal_the_trained_ones() -> None:
    trained = _model(kan_grid_size=4)
    model = build_for_inference("volunet", trained.settings, trained.state_dict())
    assert not model.training
    with torch.no_grad():
        assert torch.equal(model(_images()), trained.eval()(_images()))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"num_classes": 10**12},
            r"base_weight is 10{12}, but its shape",
        ),
        ({"kan_grid_size": 10**12}, r"length of head\.layers\.0\.grid is 10{11}7,"),
        ({"kan_grid_size": "5"}, "can only concatenate str"),
        ({"head": "linear"}, r"Error\(s\) in loading state_dict"),
        ({"sub_h": 0}, "sub_h and sub_w >= 1"),
        ({"no_such": 1}, "no_such"),
    ],
)
def test_settings_that_do_not_fit_the_tensors_are_refused(
    change: dict[str, Any], sentence: str
) -> None:
    trained = _model()
    with pytest.raises(ValueError, match=sentence) as error:
        build_for_inference("volunet", {**trained.settings, **change}, trained.state_dict())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"sub_h": 0}, "sub_h and sub_w >= 1 and min_superpixels >= 0, not 0, 4 and 6"),
        ({"min_superpixels": -1}, "not 4, 4 and -1"),
        ({"vdsm": "newest"}, "Unknown VDSM variant 'newest'; choose one of released, corrected"),
        ({"head": "deep"}, "Unknown head 'deep'; choose kan or linear"),
        ({"kan_grid_range": (1.0, 1.0)}, "grid range 1.0 to 1.0 is empty"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        _model(**settings)


def test_check_grid_gives_the_map_and_keeps_the_mode() -> None:
    model = _model(subsampling=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert model.check_grid(224) == (7, 7)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_more_superpixels_than_cells_are_refused_before_training() -> None:
    model = _model(subsampling=True, min_superpixels=17)
    with pytest.raises(ValueError, match=r"17, but subsampling leaves only 4 x 4 = 16 cells"):
        model.check_grid(224)
    assert _model(subsampling=True, min_superpixels=16).check_grid(224) == (7, 7)
    assert _model(subsampling=True, min_superpixels=49).check_grid(224) == (7, 7)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("resnet18", {}),
        ("tresnet_m", {}),
        ("mobilenetv2_100", {"pad_type": "same"}),
        ("swin_tiny_patch4_window7_224", {}),
        ("vit_tiny_patch16_224", {}),
        ("convnext_atto", {}),
    ],
)
def test_backbones_of_every_layout_give_nchw_maps(name: str, settings: dict[str, Any]) -> None:
    backbone = create_backbone(name, image_size=224, **settings).eval()
    with torch.no_grad():
        features = feature_map(backbone, _images(1, 224))
    side = 14 if name.startswith("vit") else 7
    assert features.shape == (1, backbone.num_features, side, side)


def test_swin_maps_are_turned_not_reshaped() -> None:
    backbone = create_backbone("swin_tiny_patch4_window7_224", image_size=224).eval()
    with torch.no_grad():
        nhwc = backbone.forward_features(_images(1, 224))  # type: ignore[operator]
        nchw = feature_map(backbone, _images(1, 224))
    assert torch.equal(nchw[0, :, 2, 5], nhwc[0, 2, 5])


def test_models_of_fixed_size_are_built_for_the_image_size() -> None:
    backbone = create_backbone("swin_tiny_patch4_window7_224", image_size=448).eval()
    with torch.no_grad():
        assert feature_map(backbone, _images(1, 448)).shape == (1, 768, 14, 14)


@pytest.mark.parametrize("alias", ALIASES)
def test_aliases_name_models_of_timm(alias: str) -> None:
    assert timm.get_pretrained_cfg(ALIASES[alias]) is not None


def test_unknown_backbones_get_a_sentence_with_similar_names() -> None:
    with pytest.raises(ValueError, match=r"no backbone named 'resnet17'.*Similar names: .*resnet"):
        create_model("resnet17", 5)


def test_settings_that_timm_refuses_get_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"timm cannot build the backbone 'resnet18'.*no_such"):
        create_model("resnet18", 5, no_such=1)


@pytest.mark.parametrize(
    "name", ["timm/test_resnet.r160_in1k", "hf_hub:timm/test_resnet", "hf-hub:timm/test_resnet"]
)
def test_names_of_the_model_hub_are_names_of_timm(name: str) -> None:
    expected = timm.create_model("test_resnet", num_classes=0, global_pool="").state_dict()
    built = create_backbone(name, image_size=64).state_dict()
    assert {key: value.shape for key, value in built.items()} == {
        key: value.shape for key, value in expected.items()
    }


def test_names_that_timm_has_replaced_are_taken() -> None:
    assert timm_name("tf_efficientnet_b0_ns") == "tf_efficientnet_b0.ns_jft_in1k"


@pytest.mark.parametrize("name", ["test_resnet.no_such", "test_resnet."])
def test_unknown_tags_get_a_sentence_with_the_known(name: str) -> None:
    with pytest.raises(ValueError, match=r"without a tag, or one of test_resnet\.r160_in1k\."):
        create_backbone(name, image_size=64)


def test_a_mute_refusal_names_code_layer_and_a_size_that_works() -> None:
    model = create_model("halonet26t", 5, image_size=64)
    with pytest.raises(ValueError, match=r"HaloAttn\); .*--image-size \(such as 256\)") as refusal:
        model.check_grid(112)
    assert "% self.block_size == 0" in str(refusal.value)


def test_a_size_that_the_backbone_refuses_gets_a_sentence() -> None:
    model = create_model("swin_tiny_patch4_window7_224", 5)
    with pytest.raises(ValueError, match=r"refuses images of 100 x 100 pixels: .*such as .*224"):
        model.check_grid(100)


def test_unreachable_published_weights_get_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_args: object, **_kwargs: object) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(ValueError, match=r"could not be fetched .* pass it with --model-path"):
        create_backbone("resnet18", pretrained=True)


# Weights of others


def _backbone() -> torch.nn.Module:
    torch.manual_seed(1)
    return create_backbone(TINY)


def test_weights_load_from_every_wrapping(tmp_path: Path) -> None:
    torch.manual_seed(2)
    source = timm.create_model(TINY, num_classes=7)
    state = source.state_dict()
    wrapped = {f"module.{name}": value for name, value in state.items()}
    save_file(state, tmp_path / "plain.safetensors")
    torch.save(state, tmp_path / "plain.pth")
    torch.save({"state_dict": wrapped, "epoch": 3}, tmp_path / "wrapped.pth")
    torch.save({"model": state}, tmp_path / "model.pth")
    for name in ("plain.safetensors", "plain.pth", "wrapped.pth", "model.pth"):
        backbone = _backbone()
        report = load_backbone_weights(backbone, tmp_path / name)
        assert set(report.unused) == {"fc.weight", "fc.bias"}
        assert report.missing == report.mismatched == []
        for key, value in backbone.state_dict().items():
            assert torch.equal(value, state[key]), (name, key)


def test_tensors_without_counterpart_are_listed(tmp_path: Path) -> None:
    state = _backbone().state_dict()
    del state["bn1.weight"]
    state["conv1.0.weight"] = state["conv1.0.weight"][:, :1]
    torch.save(state, tmp_path / "partial.pth")
    report = load_backbone_weights(_backbone(), tmp_path / "partial.pth")
    assert report.missing == ["bn1.weight"]
    assert report.mismatched == ["conv1.0.weight"]
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        create_model(TINY, 5, model_path=tmp_path / "partial.pth")
    assert any("bn1.weight, conv1.0.weight" in str(note.message) for note in notes)


def test_a_file_for_another_architecture_is_refused(tmp_path: Path) -> None:
    torch.save(timm.create_model("mobilenetv2_035").state_dict(), tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"None of the \d+ tensors .* another architecture"):
        load_backbone_weights(_backbone(), tmp_path / "other.pth")


class _Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return print, ("code ran",)


def test_files_that_run_code_or_are_damaged_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"w": _Bomb()}, tmp_path / "bomb.pth")
    (tmp_path / "torn.pth").write_bytes(b"PK\x03\x04 torn")
    (tmp_path / "torn.safetensors").write_bytes(b"\x00" * 20)
    (tmp_path / "empty.pth").touch()
    for name in ("bomb.pth", "torn.pth", "torn.safetensors", "empty.pth"):
        with pytest.raises(ValueError, match="cannot be read as plain tensors") as error:
            read_state_dict(tmp_path / name)
        assert "\n" not in str(error.value)
    assert "code ran" not in capsys.readouterr().out
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds a list, not a dictionary"):
        read_state_dict(tmp_path / "list.pth")
    with pytest.raises(ValueError, match="does not exist"):
        read_state_dict(tmp_path / "none.pth")
