"""Is this VoLUNet? The released code's training run and checkpoints, followed and loaded."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import golden_fill
import numpy as np
import pytest
import torch
from conftest import GOLDEN

from helper_functions.checkpoints import load_model, read_checkpoint
from helper_functions.runtime.errors import UserError
from loss_functions import AsymmetricLoss, LocalNMSLoss
from models import TrainingOutput, VoLUNet, create_model
from models.legacy import convert_released_checkpoint
from models.vdsm import superpixel_labels


def _golden(name: str) -> dict[str, Any]:
    return json.loads((GOLDEN / name).read_text())  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["checkpoint_resnet18.json", "checkpoint_tresnet_m.json"])
def test_released_checkpoints_score_as_the_released_program(name: str, tmp_path: Path) -> None:
    golden = _golden(name)
    state = golden_fill.state_dict(golden)
    for tensor, probe in golden["fill_probes"].items():
        np.testing.assert_allclose(state[tensor].flatten()[:4], probe["first_four"], rtol=1e-6)
    torch.save(state, tmp_path / "model-highest.ckpt")
    model = load_model(tmp_path / "model-highest.ckpt")
    images = golden_fill.images(golden["images"], 224, golden["images_salt"])
    with torch.no_grad():
        logits = model(images).numpy()
    expected = np.array(golden["logits"])
    assert np.abs(logits - expected).max() <= 2e-4 * np.abs(expected).max()
    assert isinstance(model, VoLUNet)
    assert model.settings["backbone_name"] == golden["backbone"]


def test_training_follows_the_released_trajectory(golden: Any) -> None:
    """Eight steps; tolerances as stated with the golden run, whose ties move with the last bit."""
    run = _golden("trajectory.json")
    features = golden("trajectory_features.npz")
    settings, state = convert_released_checkpoint(golden_fill.state_dict(run))
    model = create_model(
        **settings,
        subsampling=run["subsampling"],
        sub_h=run["sub_h"],
        sub_w=run["sub_w"],
        min_superpixels=run["min_superpixels"],
        vdsm=run["vdsm"],
    )
    model.load_state_dict(state)
    model.train()
    images = golden_fill.images(run["images"], run["image_size"], run["images_salt"])
    targets = torch.tensor(run["targets"]).float()
    adam = torch.optim.Adam(model.parameters(), lr=run["lr"], betas=tuple(run["betas"]))
    asl_loss, local_nms_loss = AsymmetricLoss(0, 0, 0), LocalNMSLoss()

    density = torch.from_numpy(features["probe_density"])
    same_ties = np.array_equal(torch.topk(density, 10).indices.numpy(), features["probe_topk"])
    asl_tolerance = [2e-4, 1e-2, *[5e-2] * 6]
    nms_tolerance = [3e-3, 0.1, *[1.0] * 6]
    for step in range(run["steps"]):
        output = model(images)
        assert isinstance(output, TrainingOutput)
        asl = asl_loss(output.logits, targets)
        nms = local_nms_loss(output.region_logits, output.region_sizes > 0)
        assert asl.item() == pytest.approx(run["asl_loss"][step], rel=asl_tolerance[step])
        assert nms.item() == pytest.approx(run["local_nms_loss"][step], rel=nms_tolerance[step])
        if step == 0:
            np.testing.assert_allclose(output.logits.detach(), run["step0_logits"], atol=2e-4)
            if same_ties:
                expected = np.array(run["step0_region_logits"])
                np.testing.assert_allclose(output.region_logits.detach(), expected, atol=1e-3)
        adam.zero_grad()
        (asl + nms).backward()
        adam.step()


def test_superpixels_of_the_trajectory(golden: Any) -> None:
    run = _golden("trajectory.json")
    arrays = golden("trajectory_features.npz")
    density = torch.from_numpy(arrays["probe_density"])
    if not np.array_equal(torch.topk(density, 10).indices.numpy(), arrays["probe_topk"]):
        pytest.skip("this torch orders ties differently, and all four maps hang on ties")
    labels = superpixel_labels(torch.from_numpy(arrays["features"]), run["min_superpixels"])
    assert labels.tolist() == run["step0_labels"]


# Backbones without golden logits: published names made from timm's, by rules written down here.


def _official_tresnet(name: str) -> str:
    name = re.sub(r"(body\.conv1)\.conv", r"\1.0", name)
    name = re.sub(r"(body\.conv1)\.bn", r"\1.1", name)
    # Strided convolutions are followed by a blur and sit one level deeper.
    name = re.sub(r"(downsample\.\d)\.conv", r"\1.0", name)
    name = re.sub(r"(downsample\.\d)\.bn", r"\1.1", name)
    name = re.sub(r"(layer\d\.\d+\.conv\d)\.conv", r"\1.0", name)
    return re.sub(r"(layer\d\.\d+\.conv\d)\.bn", r"\1.1", name)


def _official_swin(name: str) -> str:
    return re.sub(r"layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", name)


def _official_resnet(name: str) -> str:
    return name


def _released_state(backbone_name: str) -> tuple[Any, dict[str, torch.Tensor]]:
    """A model in evaluation mode and the checkpoint that the released program would write."""
    torch.manual_seed(0)
    size = 384 if "384" in backbone_name else 224
    model = create_model(backbone_name, 4, image_size=size).eval()
    official = {"tresnet": _official_tresnet, "swin": _official_swin, "resnet": _official_resnet}
    rename = official[re.match("[a-z]+", backbone_name)[0]]  # type: ignore[index]
    state = {}
    for name, value in model.backbone.state_dict().items():
        if backbone_name.startswith("tresnet") and name.endswith("bn.weight"):
            value.uniform_(0.1, 1.0)
            state[f"backbone.{rename(name)}"] = -(value - 1e-5)  # in-place ABN: |w| + 1e-5
        elif not (backbone_name.startswith("tresnet") and name.endswith("num_batches_tracked")):
            state[f"backbone.{rename(name)}"] = value
    state["backbone.head.fc.weight"] = torch.zeros(3, 3)
    for name, value in model.head.state_dict().items():
        state[f"WIC_Cls.{name}"] = value
    return model, state


@pytest.mark.parametrize(
    "backbone_name",
    [
        "tresnet_m",
        "tresnet_l",
        "resnet18",
        "resnet50",
        "resnet101",
        "swin_b_224_22k",
        pytest.param("swin_b_384_22k", marks=pytest.mark.slow),
        pytest.param("swin_l_224_22k", marks=pytest.mark.slow),
        pytest.param("swin_l_384_22k", marks=pytest.mark.slow),
    ],
)
def test_backbone_and_classes_follow_from_the_tensors(backbone_name: str, tmp_path: Path) -> None:
    model, state = _released_state(backbone_name)
    torch.save(state, tmp_path / "released.ckpt")
    loaded = load_model(tmp_path / "released.ckpt")
    assert isinstance(loaded, VoLUNet)
    assert loaded.settings["backbone_name"] == backbone_name
    assert loaded.settings["num_classes"] == 4
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: s.pop("WIC_Cls.layers.0.base_weight"), "lacks the tensor WIC_Cls"),
        (lambda s: s.pop("backbone.layer2.0.conv1.weight"), "lacks 1 tensors of a resnet18"),
        (lambda s: s.pop("backbone.layer3.0.conv1.weight"), "none of the released program's"),
    ],
)
def test_incomplete_released_checkpoints_are_refused(
    change: Any, sentence: str, tmp_path: Path
) -> None:
    _, state = _released_state("resnet18")
    change(state)
    torch.save(state, tmp_path / "released.ckpt")
    with pytest.raises(UserError, match=sentence):
        read_checkpoint(tmp_path / "released.ckpt")
