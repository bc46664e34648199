"""Exported models against the checkpoint they come from, each read by its format's own program."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Script, assert_refused
from safetensors.torch import load_file
from torch import Tensor

from helper_functions.checkpoints import load_model, read_checkpoint
from helper_functions.checkpoints.checkpoint import save_checkpoint
from helper_functions.checkpoints.hub_folder import write_hub_folder
from helper_functions.inference import export as exporting
from helper_functions.runtime.errors import UserError
from models import VoLUNet, create_model

SIDE = 64
CLASSES = ["ash", "Eiche", "ölbaum"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model whose batch norm has seen something."""
    torch.manual_seed(0)
    model = create_model("resnet10t", len(CLASSES), subsampling=True, sub_h=2, sub_w=2)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
            torch.nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
    info = {
        "task": "classify",
        "classes": CLASSES,
        "image_size": SIDE,
        "mean": [0.4, 0.5, 0.6],
        "std": [0.2, 0.3, 0.25],
        "bands": ["rgb"],
        "value_range": None,
    }
    path = tmp_path_factory.mktemp("model") / "model-highest.ckpt"
    save_checkpoint(
        path, {"settings": model.settings, "model": model.state_dict(), "info": info, "args": {}}
    )
    return path


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> VoLUNet:
    model = load_model(checkpoint)
    assert isinstance(model, VoLUNet)
    return model


def batches() -> list[Tensor]:
    """Images in batches of sizes that the export has not seen."""
    generator = torch.Generator().manual_seed(7)
    return [torch.randn(size, 3, SIDE, SIDE, generator=generator) for size in (1, 3, 7)]


def expected_logits(model: VoLUNet, images: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(images)
    assert logits.abs().mean() > 0.01  # an error of 1e-4 is one
    return logits


def export(run_here: Script, checkpoint: Path, kind: str, *flags: object) -> str:
    done = run_here("val.py", "--ckpt-path", checkpoint, "--export", kind, "-j", 0, *flags)
    assert done.status == 0, done.errors
    return done.printed


def test_onnx_runs_in_onnx_runtime(
    checkpoint: Path, model: VoLUNet, tiny_set: Path, run_here: Script, tmp_path: Path
) -> None:
    reason = "the packages of requirements-export.txt are not installed"
    onnx = pytest.importorskip("onnx", reason=reason)
    pytest.importorskip("onnxscript", reason=reason)
    runtime = pytest.importorskip("onnxruntime", reason=reason)
    flags = ("--output", tmp_path, "--img_dir", tiny_set / "images")
    printed = export(run_here, checkpoint, "onnx", *flags)
    assert f"model.onnx agrees with the checkpoint on 8 images of {tiny_set / 'images'}" in printed
    onnx.checker.check_model(tmp_path / "model.onnx", full_check=True)
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    assert [(node.name, node.shape[1:]) for node in session.get_inputs()] == [
        ("images", [3, SIDE, SIDE])
    ]
    for images in batches():
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        np.testing.assert_allclose(logits, expected_logits(model, images), atol=1e-4)
    info = json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))
    assert info == {**read_checkpoint(checkpoint)["info"], "input_size": [3, SIDE, SIDE]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.onnx"]


@pytest.mark.parametrize("kind", ["torchscript", "torch-export", "onnx"])
def test_scores_from_regions_are_exported(
    kind: str, checkpoint: Path, run_here: Script, tmp_path: Path
) -> None:
    if kind == "onnx":
        pytest.importorskip("onnxscript", reason="the packages of requirements-export.txt")
    printed = export(run_here, checkpoint, kind, "--output", tmp_path, "--score-from", "regions")
    assert float(printed.split("difference of an output is ")[1].rstrip(".\n")) < 1e-3


@pytest.mark.parametrize("kind", ["torchscript", "torch-export"])
def test_pytorchs_own_formats_run_without_this_program(
    kind: str, checkpoint: Path, model: VoLUNet, run_here: Script, tmp_path: Path
) -> None:
    printed = export(run_here, checkpoint, kind, "--output", tmp_path)
    assert "5 images of random noise (give --img_dir to compare on your own)" in printed
    exported: Any
    if kind == "torchscript":
        exported = torch.jit.load(tmp_path / "model.torchscript")  # type: ignore[no-untyped-call]
    else:
        exported = torch.export.load(tmp_path / "model.pt2").module()
    for images in batches():
        with torch.no_grad():
            torch.testing.assert_close(
                exported(images), expected_logits(model, images), atol=1e-4, rtol=0
            )
    info = json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))
    assert (info["classes"], info["image_size"], info["mean"]) == (CLASSES, SIDE, [0.4, 0.5, 0.6])


def test_a_folder_holds_the_model_in_plain_files(
    checkpoint: Path, model: VoLUNet, run_here: Script, tmp_path: Path
) -> None:
    folder = tmp_path / "volunet-trees"
    export(run_here, checkpoint, "folder", "--output", folder)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["architecture"] == "volunet"
    assert config["label_names"] == CLASSES
    assert config["pretrained_cfg"]["input_size"] == [3, SIDE, SIDE]
    by_hand = create_model(**config["model_args"]).eval()
    by_hand.load_state_dict(load_file(folder / "model.safetensors"))
    loaded = load_model(folder)
    assert not loaded.training
    for images in batches():
        expected = expected_logits(model, images)
        with torch.no_grad():
            assert torch.equal(by_hand(images), expected)
            assert torch.equal(loaded(images), expected)
    assert read_checkpoint(folder)["info"] == read_checkpoint(checkpoint)["info"]


def test_val_predicts_with_a_folder_as_with_its_checkpoint(
    checkpoint: Path, tiny_set: Path, run_here: Script, tmp_path: Path
) -> None:
    export(run_here, checkpoint, "folder", "--output", tmp_path / "folder")
    for name, path in (("a", checkpoint), ("b", tmp_path / "folder")):
        flags = ("--img_dir", tiny_set / "images", "--output", tmp_path / name, "-j", 0)
        done = run_here("val.py", "--ckpt-path", path, *flags)
        assert done.status == 0, done.errors
    tables = [(tmp_path / name / "predictions.csv").read_bytes() for name in "ab"]
    assert tables[0] == tables[1]


def test_by_default_the_export_lies_beside_the_checkpoint(
    checkpoint: Path, run_here: Script, tmp_path: Path
) -> None:
    path = tmp_path / "model.ckpt"
    path.write_bytes(checkpoint.read_bytes())
    export(run_here, path, "folder")
    assert (tmp_path / "export" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("{", "is not valid JSON"),
        ("[]", "does not describe a volunet"),
        ('{"architecture": "resnet50"}', "does not describe a volunet"),
        ('{"architecture": "volunet"}', "lacks a part or has it in another form"),
    ],
)
def test_a_damaged_configuration_is_named(tmp_path: Path, config: str, sentence: str) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(UserError, match=rf"config\.json {sentence}"):
        load_model(tmp_path)


def test_a_folder_without_its_files_is_named(
    checkpoint: Path, model: VoLUNet, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"config\.json cannot be read \(No such file"):
        load_model(tmp_path)
    write_hub_folder(tmp_path, model, read_checkpoint(checkpoint)["info"])
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors does not exist"):
        load_model(tmp_path)


def test_a_missing_package_is_named(
    checkpoint: Path, run_here: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    output = tmp_path / "out"
    flags = ("--ckpt-path", checkpoint, "--output", output)
    done = run_here("val.py", *flags, "--export", "onnx")
    assert_refused(done, "--export onnx needs onnx and onnxscript and onnxruntime", output)
    done = run_here("val.py", *flags, "--img_dir", tmp_path, "--predictions-format", "parquet")
    assert_refused(done, "--predictions-format parquet needs pyarrow", output)


def test_an_export_that_scores_differently_is_not_kept(
    checkpoint: Path, run_here: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slightly_wrong(path: Path) -> torch.nn.Module:
        wrong = load_model(path)
        torch.nn.init.normal_(wrong.get_parameter("head.layers.0.base_weight"))
        return wrong

    monkeypatch.setattr(exporting, "load_model", slightly_wrong)
    output = tmp_path / "out"
    done = run_here("val.py", "--ckpt-path", checkpoint, "--export", "folder", "--output", output)
    assert_refused(done, "The folder file computes something else than the checkpoint", output)


def test_a_size_of_batch_that_was_baked_in_shows(
    model: VoLUNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(model: torch.nn.Module, example: Tensor, path: Path, _: dict[str, Any]) -> None:
        torch.export.save(torch.export.export(model, (example,)), path)

    fixed = exporting.FORMATS["torch-export"]._replace(write=write)
    monkeypatch.setitem(exporting.FORMATS, "torch-export", fixed)
    for size in (1, 2, 4):
        images = torch.rand(size, 3, SIDE, SIDE)
        with pytest.raises(UserError, match="cannot be written as torch-export: "):
            exporting.export("torch-export", model, {}, images, tmp_path / "out")
        assert not (tmp_path / "out").exists()


class Refusing(torch.nn.Module):
    """Raises what exporters raise, from within a layer."""

    def forward(self, _: Tensor) -> Tensor:
        raise AttributeError("'tuple' object has no attribute 'dtype'\nand more")


def test_a_failed_export_names_model_reason_and_layer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = create_model("test_resnet", 2)
    model.backbone.layer1 = Refusing()

    def write(model: torch.nn.Module, example: Tensor, *_: object) -> None:
        try:
            model(example)
        except AttributeError as error:
            raise RuntimeError("Step 3 of 3 failed.") from error

    broken = exporting.FORMATS["folder"]._replace(write=write)
    monkeypatch.setitem(exporting.FORMATS, "folder", broken)
    with pytest.raises(UserError) as failure:
        exporting.export("folder", model.eval(), {}, torch.rand(1, 3, SIDE, SIDE), tmp_path / "out")
    assert str(failure.value) == (
        "The model test_resnet cannot be written as folder: AttributeError: 'tuple' object has no "
        "attribute 'dtype' in backbone.layer1 (Refusing); choose another --export."
    )
    assert not (tmp_path / "out").exists()


# A small one of each family that gives tokens.
TOKENS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "vit": ("test_vit", 32, {}),
    "deit": ("deit_tiny_patch16_224", 32, {"depth": 1}),
    "dinov2": ("vit_small_patch14_dinov2", 28, {"depth": 1}),
    "dinov3": ("vit_small_patch16_dinov3", 32, {"depth": 1}),
    "naflexvit": ("naflexvit_base_patch16_gap", 32, {"depth": 1, "embed_dim": 96, "num_heads": 3}),
    "levit": ("levit_128s", 64, {"depth": [1, 1, 1]}),
    "hiera": ("hiera_tiny_224", 96, {"stages": [1, 1, 1, 1], "embed_dim": 48}),
}


@pytest.mark.parametrize("family", TOKENS)
@pytest.mark.parametrize(
    "kind", ["torchscript", "torch-export", pytest.param("onnx", marks=pytest.mark.slow)]
)
def test_networks_of_tokens_take_any_number_of_images(
    family: str, kind: str, tmp_path: Path
) -> None:
    for package in exporting.FORMATS[kind].packages:
        pytest.importorskip(package, reason="requirements-export.txt is not installed")
    name, side, settings = TOKENS[family]
    torch.manual_seed(0)
    model = create_model(name, 3, image_size=side, **settings).eval()
    images = torch.rand(5, 3, side, side)
    file, _ = exporting.export(kind, model, {}, images, tmp_path)
    exported = exporting.FORMATS[kind].load(file)
    for size in (1, 2, 5):
        with torch.no_grad():
            expected = model(images[:size])
            torch.testing.assert_close(exported(images[:size]), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", ["vit", "hiera"])
def test_onnx_has_vit_and_hiera(family: str, tmp_path: Path) -> None:
    test_networks_of_tokens_take_any_number_of_images(family, "onnx", tmp_path)


def test_without_images_something_must_be_exported(checkpoint: Path, run_here: Script) -> None:
    done = run_here("val.py", "--ckpt-path", checkpoint)
    assert_refused(done, "the following arguments are required: --img_dir")
