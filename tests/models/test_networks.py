"""Dense networks: every name at any size, weights of others, and building them again."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from helper_functions.runtime.errors import UserError
from helper_functions.training.run import checkpoint_activations
from models import NETWORKS, build_for_inference, create_network
from models.networks import SMP, EncoderDecoder

TINY = "mobilenetv3_small_050"  # the smallest encoder of timm's usual ones
SMALL = [*SMP, "dilated"]
SIZES = [(1, 1), (33, 57)]


def _network(name: str, num_outputs: int = 2, **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    if name in SMP:
        settings = {"backbone_name": TINY, **settings}
    return create_network(name, num_outputs, **settings)


def _inner(network: nn.Module) -> nn.Module:
    """The network of the other library."""
    assert isinstance(network, EncoderDecoder)
    return network.network


def _image(height: int, width: int, count: int = 1) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def _is_reached(parameter: nn.Parameter) -> bool:
    return parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)


@pytest.mark.parametrize("name", [*SMALL, "deeplabv3_resnet50", "fcn_resnet50"])
def test_one_image_of_any_size_trains_the_first_and_the_last_layer(name: str) -> None:
    network = _network(name)
    for size in SIZES:
        network.zero_grad()
        output = network(_image(*size))
        assert output.shape == (1, 2, *size)
        output.square().mean().backward()
        parameters = list(network.parameters())
        assert all(p.grad is None or p.grad.isfinite().all() for p in parameters)
        assert _is_reached(parameters[-1])
        assert _is_reached(parameters[0]) or size == (1, 1)
    assert all(module.training for module in network.modules())


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # 3 * 24 * 9 + 24, four times 24 * 24 * 9 + 24, norms, 24 * 2 + 2
        ("dilated", 672 + 4 * 5208 + 5 * 48 + 50),
        # those published by torchvision for 21 classes, less the auxiliary head
        ("deeplabv3_resnet50", 42004074 - 2365205 - 19 * 257),
        ("fcn_resnet50", 35322218 - 2365205 - 19 * 513),
        ("deeplabv3_resnet101", 60996202 - 2365205 - 19 * 257),
        ("fcn_resnet101", 54314346 - 2365205 - 19 * 513),
    ],
)
def test_numbers_of_parameters(name: str, parameters: int) -> None:
    with torch.device("meta"):
        network = create_network(name, 2)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_unet_is_that_of_its_library_on_the_padded_image() -> None:
    network = _network("unet", decoder_channels=(32, 24, 16, 16, 8)).eval()
    twin = smp.Unet(f"tu-{TINY}", 5, None, decoder_channels=(32, 24, 16, 16, 8), classes=2).eval()
    twin.load_state_dict(_inner(network).state_dict())
    image = _image(33, 57)
    with torch.no_grad():
        padded = twin(F.pad(image, (0, 7, 0, 31), mode="replicate"))
        assert torch.equal(network(image), padded[:, :, :33, :57])


def test_fcn_is_that_of_torchvision() -> None:
    network = _network("fcn_resnet50").eval()
    twin = torchvision.models.segmentation.fcn_resnet50(
        weights_backbone=None, num_classes=2, aux_loss=False
    ).eval()
    twin.load_state_dict(_inner(network).state_dict())
    with torch.no_grad():
        assert torch.equal(network(_image(33, 57)), twin(_image(33, 57))["out"])


def test_a_norm_of_a_single_value_uses_its_running_statistics() -> None:
    network = EncoderDecoder(nn.BatchNorm2d(3))
    norm = network.network
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    norm.running_mean.fill_(0.25)
    for module in (network, copy.deepcopy(network)):
        image = _image(1, 1)
        torch.testing.assert_close(module(image), (image - 0.25) / (1 + 1e-5) ** 0.5)
        assert module.network.training
    # Two values or two images are normalized by their own statistics, as ever.
    two = network(_image(1, 1, count=2))
    torch.testing.assert_close(two.mean(0), torch.zeros(3, 1, 1), atol=1e-4, rtol=0)
    norm.eval()
    network(_image(1, 1))
    assert not norm.training


@pytest.mark.parametrize("name", SMALL)
def test_checkpoints_build_the_same_network(name: str) -> None:
    trained: Any = _network(name, output_bias=-1.5)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.mul_(1.1)
    assert trained.architecture == "network"
    model = build_for_inference("network", dict(trained.settings), trained.state_dict())
    assert not model.training
    assert model.settings == trained.settings
    with torch.no_grad():
        assert torch.equal(model(_image(40, 50)), trained.eval()(_image(40, 50)))


def test_checkpointed_activations_give_the_same_gradients() -> None:
    gradients = []
    for checkpointed in (False, True):
        network = _network("unet")
        if checkpointed:
            checkpoint_activations(network)
        loss = network(_image(64, 64, count=2)).square().mean()
        gradients.append(torch.autograd.grad(loss, list(network.parameters())))
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)
    with pytest.raises(UserError, match="cannot checkpoint the activations of EncoderDecoder"):
        checkpoint_activations(_network("fcn_resnet50"))


def test_settings_name_no_weights(tmp_path: Path) -> None:
    torch.save(timm.create_model(TINY).state_dict(), tmp_path / "weights.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = _network("unet", model_path=tmp_path / "weights.pth", drop_path_rate=0.1)
    expected = {"name": "unet", "num_outputs": 2, "backbone_name": TINY, "output_bias": None}
    assert network.settings == {**expected, "drop_path_rate": 0.1}


def test_a_number_of_outputs_that_does_not_fit_the_tensors_is_refused() -> None:
    network: Any = _network("dilated")
    settings = {**network.settings, "num_outputs": 10**12}
    with pytest.raises(ValueError, match=r"dilated has 10{12} outputs, but .* head\.bias is \(2,"):
        build_for_inference("network", settings, network.state_dict())


@pytest.mark.parametrize("name", [*SMALL, "fcn_resnet50"])
def test_the_last_bias_starts_where_it_is_told(name: str) -> None:
    network = _network(name, output_bias=-2.5)
    assert (list(network.parameters())[-1] == -2.5).all()


def test_logits_of_dilated_start_at_minus_two() -> None:
    assert (list(_network("dilated").parameters())[-1] == -2).all()


# Weights of others


@pytest.mark.parametrize(
    ("backbone", "settings", "unused"),
    [
        ("mobilenetv2_035", {"pad_type": "same"}, {"conv_head", "bn2", "classifier"}),
        ("resnet10t", {}, {"fc"}),
        ("convnext_atto", {}, {"head"}),
        ("tresnet_m", {"width_factor": 0.25}, {"head"}),
        (
            "swin_tiny_patch4_window7_224",
            {"embed_dim": 16, "depths": [1, 2, 1, 1], "num_heads": [1, 1, 1, 1]},
            {"norm", "head"},
        ),
    ],
)
def test_weights_of_a_timm_file_fill_the_encoder(
    tmp_path: Path, backbone: str, settings: dict[str, Any], unused: set[str]
) -> None:
    torch.manual_seed(2)
    whole = timm.create_model(backbone, **settings)
    path = tmp_path / "weights.pth"
    torch.save(whole.state_dict(), path)
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        network = create_network("unet", 2, backbone, model_path=path, **settings)
    (note,) = [str(note.message) for note in notes if str(path) in str(note.message)]
    assert "have no counterpart in the backbone" in note
    names = note.split(": ")[-1].rstrip(".").split(", ")
    assert {name.split(".")[0] for name in names} == unused
    # The encoder alone gives the maps that timm gives.
    maps = _inner(network).get_submodule("encoder").eval()(_image(224, 224))
    expected = whole.eval().forward_intermediates(_image(224, 224), intermediates_only=True)
    torch.testing.assert_close(maps[-1], expected[-1])


def test_missing_and_mismatched_tensors_are_named(tmp_path: Path) -> None:
    state = timm.create_model("resnet10t").state_dict()
    for name in ("fc.weight", "fc.bias", "layer1.0.bn1.weight"):
        del state[name]
    state["conv1.0.weight"] = state["conv1.0.weight"][:, :1]
    torch.save(state, tmp_path / "partial.pth")
    with pytest.warns(UserWarning, match=r"lacks 2 .*: layer1\.0\.bn1\.weight, conv1\.0\.weight\."):
        create_network("unet", 2, "resnet10t", model_path=tmp_path / "partial.pth")


def test_weights_of_torchvision_load_without_their_head(tmp_path: Path) -> None:
    with torch.device("meta"):
        published = torchvision.models.segmentation.fcn_resnet50(
            weights_backbone=None, num_classes=21, aux_loss=True
        ).state_dict()
    file = {
        name: torch.tensor(1 + i / 512).to(value.dtype).expand(value.shape)
        for i, (name, value) in enumerate(published.items())
    }
    torch.save(file, tmp_path / "coco.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network = create_network("fcn_resnet50", 3, model_path=tmp_path / "coco.pth")
    state = network.state_dict()
    for name, value in state.items():
        key = name.removeprefix("network.")
        assert torch.equal(value, file[key]) == key.startswith("backbone."), name
    assert state["network.classifier.4.weight"].shape == (3, 512, 1, 1)


# What is refused


def test_unknown_names_get_the_list() -> None:
    with pytest.raises(ValueError, match=r"Unknown network 'u-net'; choose one of fcn8_vgg16, di"):
        create_network("u-net", 2)
    assert NETWORKS[2:5] == ("unet", "fpn", "deeplabv3plus")


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("unet", {"backbone_name": "resnet17"}, "no backbone named 'resnet17'.* Similar names"),
        ("unet", {"backbone_name": "vit_tiny_patch16_224"}, "4, 8, 16 and 32, but .* at 16, 16, 1"),
        ("deeplabv3plus", {"backbone_name": "edgenext_xx_small"}, "last maps at stride 16; choose"),
        ("fpn", {"backbone_name": "efficientformer_l1"}, "refuses 32 x 96 pixels"),
        # Its last map must have an even number of rows and columns.
        ("deeplabv3plus", {"backbone_name": "mobilevitv2_050"}, "refuses 16 x 48 pixels"),
        ("unet", {"no_such": 1}, "timm cannot build the backbone .*no_such"),
        ("unet", {"activation": "sigmoid"}, "unet sets activation itself: leave that out"),
        ("dilated", {"no_such": 1}, "dilated has no settings: leave out no_such"),
        ("dilated", {"pretrained": True}, "dilated starts untrained"),
        ("dilated", {"num_outputs": 0}, "at least one output, not 0"),
        ("fcn8_vgg16", {"output_bias": -2}, "fcn8_vgg16 start at 0: leave out output_bias"),
    ],
)
def test_impossible_settings_are_refused(
    name: str, settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence) as error:
        _network(name, **settings)
    assert "\n" not in str(error.value)


def test_a_backbone_for_a_network_that_has_one_is_named() -> None:
    with pytest.warns(UserWarning, match="dilated has a backbone of its own: resnet18 is not used"):
        network: Any = create_network("dilated", 2, "resnet18")
    assert network.settings["backbone_name"] is None


@pytest.mark.parametrize("name", ["unet", "fpn", "deeplabv3plus"])
def test_logits_start_near_a_chosen_bias(name: str) -> None:
    torch.manual_seed(0)
    network = create_network(name, 1, "resnet10t", output_bias=-2.0).train()
    with torch.no_grad():
        logits = network(torch.rand(2, 3, 64, 64))
    assert (logits < 0).float().mean() > 0.99
    assert abs(float(logits.mean()) + 2) < 0.5
