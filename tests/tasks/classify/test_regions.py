"""Classes of regions against pixel masks: the measures, the files, and both through ``val.py``."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import expit, logsumexp
from sklearn.metrics import jaccard_score
from torch import nn

import val
from helper_functions.checkpoints.checkpoint import save_checkpoint
from helper_functions.data.flags import InputSettings
from helper_functions.data.images import read_image
from helper_functions.data.masks import IndexArray, MaskFolder
from helper_functions.data.transforms import EvalTransform
from helper_functions.forest import CLASSES, write_dataset
from helper_functions.runtime.errors import UserError
from helper_functions.tasks.classify import Classify
from helper_functions.tasks.classify.regions import count_classes, region_metrics
from models import VoLUNet, create_model
from models.backbones import feature_map


def _touched(cell: int, cells: int, size: int) -> list[int]:
    """Pixels of a side that a cell touches, by the definition of its borders."""
    start, end = Fraction(cell * size, cells), Fraction((cell + 1) * size, cells)
    return [pixel for pixel in range(size) if start < pixel + 1 and pixel < end]


def _nearest(cells: int, size: int) -> list[int]:
    """The cell that each pixel's center lies in."""
    return [math.floor((pixel + Fraction(1, 2)) * cells / size) for pixel in range(size)]


def _plain_metrics(cells: IndexArray, masks: list[IndexArray], num_classes: int) -> dict[str, Any]:
    """The measures image by image, cell by cell, pixel by pixel."""
    rows, columns = cells.shape[1:]
    shown, right, distinct = [], [], []
    predicted_pixels, true_pixels = [], []
    for predicted, mask in zip(cells, masks, strict=True):
        height, width = mask.shape
        for row in range(rows):
            for column in range(columns):
                ys, xs = _touched(row, rows, height), _touched(column, columns, width)
                inside = Counter(int(mask[y, x]) for y in ys for x in xs)
                shown.append(inside[int(predicted[row, column])] > 0)
                distinct.append(sum(name < num_classes for name in inside))
                majority = min(inside, key=lambda name: (-inside[name], name))
                if majority < num_classes:
                    right.append(majority == predicted[row, column])
        for y, row in enumerate(_nearest(rows, height)):
            for x, column in enumerate(_nearest(columns, width)):
                if mask[y, x] < num_classes:
                    predicted_pixels.append(int(predicted[row, column]))
                    true_pixels.append(int(mask[y, x]))
    present = sorted(set(predicted_pixels) | set(true_pixels))
    return {
        "region_purity": 100 * np.mean(shown),
        "region_accuracy": 100 * np.mean(right),
        "region_miou": 100
        * jaccard_score(true_pixels, predicted_pixels, labels=present, average="macro"),
        "region_purity_chance": 100 * np.mean(distinct) / num_classes,
    }


@pytest.mark.parametrize(("grid", "seed"), [((4, 4), 0), ((3, 5), 1), ((1, 1), 2), ((7, 2), 3)])
def test_measures_equal_a_plain_count(grid: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    num_classes = 6
    masks = []
    for _ in range(5):  # blocks of one class, of sizes that no grid divides, 6 being no class
        height, width = rng.integers(9, 30, 2)
        blocks = rng.integers(0, num_classes + 1, (5, 4))
        blocks[blocks == 4] = 0  # one class is never shown
        masks.append(np.kron(blocks, np.ones((6, 8), np.intp))[:height, :width])
    cells = rng.integers(0, num_classes - 1, (5, *grid))  # and one is never predicted
    top = rng.integers(0, num_classes, 5)
    found = region_metrics(cells, top, iter(masks), num_classes)
    expected = _plain_metrics(cells, masks, num_classes)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value), name
        assert 0 < value < 100
    majority = _plain_metrics(np.broadcast_to(top[:, None, None], cells.shape), masks, num_classes)
    for name in ("region_purity", "region_accuracy", "region_miou"):
        assert found[f"{name}_majority"] == pytest.approx(majority[name]), name
    assert found["region_grid"] == list(grid)


def test_a_case_by_hand() -> None:
    # Four quarters of 2 x 2 pixels; class 2 stands for "no class".
    mask = np.array(
        [
            [0, 0, 1, 1],
            [0, 1, 1, 1],
            [2, 2, 0, 0],
            [2, 1, 2, 2],
        ]
    )
    cells = np.array([[[1, 1], [1, 1]]])
    found = region_metrics(cells, np.array([0]), [mask], 2)
    # Class 1 is in all quarters but the last. The third is mostly no class; the last is divided,
    # so class 0 counts. Of 11 pixels with a class 6 are of class 1, and all are predicted to be.
    assert found["region_purity"] == 75
    assert found["region_accuracy"] == pytest.approx(100 / 3)
    assert found["region_miou"] == pytest.approx(100 * (6 / 11) / 2)
    assert found["region_purity_majority"] == 50
    assert found["region_accuracy_majority"] == pytest.approx(200 / 3)
    assert found["region_miou_majority"] == pytest.approx(100 * (5 / 11) / 2)
    assert found["region_purity_chance"] == pytest.approx(100 * (2 + 1 + 1 + 1) / 4 / 2)


def test_right_cells_score_100_and_masks_without_a_class_0() -> None:
    cells = np.arange(12).reshape(1, 3, 4)
    mask = np.kron(cells[0], np.ones((5, 5), np.intp))
    found = region_metrics(cells, np.array([0]), [mask], 12)
    assert [found[f"region_{name}"] for name in ("purity", "accuracy", "miou")] == [100, 100, 100]
    nothing = region_metrics(cells, np.array([0]), [np.full((15, 20), 12)], 12)
    assert {value for name, value in nothing.items() if name != "region_grid"} == {0}


@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (3, 5), (9, 11), (12, 1)])
def test_cells_cover_what_adaptive_pooling_covers(rows: int, columns: int) -> None:
    mask = np.random.default_rng(0).integers(0, 4, (9, 11))
    counts = count_classes(mask, rows, columns, 3)
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(mask), 4).permute(2, 0, 1).double()
    shares = torch.nn.functional.adaptive_avg_pool2d(one_hot, (rows, columns)).permute(1, 2, 0)
    np.testing.assert_allclose(counts / counts.sum(axis=2, keepdims=True), shares, atol=1e-12)


# The model and the files


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("forest")
    write_dataset(folder, tiles=6)
    return folder


@pytest.fixture(scope="module")
def model() -> VoLUNet:
    """Untrained, but with a head that answers different cells differently."""
    torch.manual_seed(0)
    model = create_model("resnet10t", len(CLASSES), subsampling=True, vdsm="nearest", image_size=96)
    assert isinstance(model.head, nn.Module)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.mul_(5)
    return model.eval()


@pytest.fixture(scope="module")
def checkpoint(model: VoLUNet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "model-highest.ckpt"
    info = {
        "task": "classification",
        "classes": list(CLASSES),
        "image_size": 96,
        "mean": None,
        "std": None,
    }
    save_checkpoint(
        path, {"settings": model.settings, "model": model.state_dict(), "info": info, "args": {}}
    )
    return path


Validate = Callable[..., None]


@pytest.fixture
def validate(checkpoint: Path, forest: Path, monkeypatch: pytest.MonkeyPatch) -> Validate:
    """Runs ``val.py`` in this process on all tiles of the forest."""

    def run(output: Path, *flags: object) -> None:
        arguments = (
            *(
                "val.py",
                "--ckpt-path",
                checkpoint,
                "--img_dir",
                forest / "images",
                "-b",
                4,
                "-j",
                0,
            ),
            *("--csv_path", forest / "splits.csv", "--split", "all", "--device", "cpu"),
            *("--output", output, *flags),
        )
        monkeypatch.setattr(sys, "argv", list(map(str, arguments)))
        val.main()

    return run


def test_validation_with_masks_measures_the_regions(
    model: VoLUNet,
    forest: Path,
    validate: Validate,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    validate(tmp_path / "masks", "--mask-dir", forest / "masks")
    printed = capsys.readouterr().out
    metrics = json.loads((tmp_path / "masks" / "metrics.json").read_text())

    transform = EvalTransform(96)
    cells, masks = [], []
    for path in sorted((forest / "images").iterdir()):
        pixels, _ = transform(read_image(path))
        scores = model.score_regions(pixels[None].float() / 255)
        tops = scores.region_logits.argmax(dim=1)
        cells.append([[int(tops[label]) for label in line] for line in scores.labels[0]])
        masks.append(np.asarray(Image.open(forest / "masks" / path.name)).astype(np.intp))
    expected = _plain_metrics(np.array(cells), masks, len(CLASSES))
    assert len({name for image in cells for line in image for name in line}) > 1
    for name, value in expected.items():
        assert metrics[name] == pytest.approx(value), name
    assert metrics["region_grid"] == [4, 4]
    assert "in 4 x 4 cells" in printed
    assert f"{metrics['region_purity']:.2f}" in printed

    validate(tmp_path / "plain")
    plain = json.loads((tmp_path / "plain" / "metrics.json").read_text())
    assert plain == {key: value for key, value in metrics.items() if "region" not in key}
    assert "cells" not in capsys.readouterr().out
    predictions = [tmp_path / name / "predictions.csv" for name in ("masks", "plain")]
    assert predictions[0].read_bytes() == predictions[1].read_bytes()


def test_scores_can_come_from_the_cells_of_any_checkpoint(
    model: VoLUNet, forest: Path, validate: Validate, tmp_path: Path
) -> None:
    validate(tmp_path, "--score-from", "regions")
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    transform = EvalTransform(96)
    for row in rows:
        pixels, _ = transform(read_image(forest / "images" / row["filename"]))
        with torch.no_grad():
            features = feature_map(model.backbone, pixels[None].float() / 255)[0]
            cells = model.head(features.flatten(1).T).double().numpy()
        logits = logsumexp(4 * cells, axis=0, b=1 / len(cells)) / 4
        scores = [float(row[name]) for name in CLASSES]
        np.testing.assert_allclose(scores, expit(logits), atol=1e-5)


def test_one_pass_serves_scores_and_regions(
    model: VoLUNet, forest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, passes = model.backbone.forward_features, 0

    def counted(images: torch.Tensor) -> torch.Tensor:
        nonlocal passes
        passes += len(images)
        features: torch.Tensor = forward(images)  # type: ignore[operator]
        return features

    transform, masks = EvalTransform(96), MaskFolder(forest / "masks", CLASSES)
    paths = sorted((forest / "images").iterdir())
    pixels = torch.stack([transform(read_image(path), None)[0] for path in paths])
    images = transform.normalize(pixels)
    task = Classify(CLASSES, InputSettings(96), masks=masks)
    with torch.no_grad():
        expected = model(images).sigmoid()
        scored = model.score_regions(images)
        monkeypatch.setattr(model.backbone, "forward_features", counted)
        predictions = task.predict(model, images)
    assert passes == len(paths)
    np.testing.assert_allclose(predictions["scores"], expected, rtol=1e-5)
    np.testing.assert_array_equal(predictions["top_class"], expected.argmax(dim=1))
    np.testing.assert_array_equal(predictions["region_labels"], scored.labels)
    assert [len(classes) for classes in predictions["region_classes"]] == [
        int(label.max()) + 1 for label in scored.labels
    ]


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    """Masks of two images, one in a subfolder; of the names the second is no class."""
    folder = tmp_path / "masks"
    (folder / "deep").mkdir(parents=True)
    (folder / "classes.json").write_text('["crab", "background", "anemone"]')
    values = np.array([[0, 1, 2], [2, 2, 0]], np.uint8)
    Image.fromarray(values).save(folder / "a.png")
    palette = Image.fromarray(values, mode="P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    palette.save(folder / "deep" / "b.png", bits=2)
    return folder


def test_masks_are_read_as_classes_of_the_model(masks: Path) -> None:
    folder = MaskFolder(masks, ["anemone", "crab", "whelk"])
    for name in ("a.jpg", "deep/b.tif"):
        np.testing.assert_array_equal(folder.read(name), [[1, 3, 0], [0, 0, 1]])


def test_masks_fit_upright_images(masks: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (2, 3)).save(tmp_path / "a.jpg", exif=exif)
    folder = MaskFolder(masks, ["crab"])
    folder.check(["a.jpg"], [tmp_path / "a.jpg"])
    Image.new("RGB", (2, 3)).save(tmp_path / "a.jpg")
    with pytest.raises(UserError, match=r"a\.png has 3 x 2 pixels, but its .*a\.jpg has 2 x"):
        folder.check(["a.jpg"], [tmp_path / "a.jpg"])


def _no_mask(folder: Path) -> None:
    (folder / "tile_00001.png").unlink()


def _no_names(folder: Path) -> None:
    (folder / "classes.json").unlink()


def _torn_names(folder: Path) -> None:
    (folder / "classes.json").write_text('["Abies", ')


def _numbers_for_names(folder: Path) -> None:
    (folder / "classes.json").write_text('{"Abies": 0}')


def _names_of_others(folder: Path) -> None:
    (folder / "classes.json").write_text(json.dumps([f"genus {n}" for n in range(15)]))


def _few_names(folder: Path) -> None:
    (folder / "classes.json").write_text(json.dumps(CLASSES[:1]))


def _torn_mask(folder: Path) -> None:
    path = folder / "tile_00002.png"
    path.write_bytes(path.read_bytes()[:200])


def _lossy_mask(folder: Path) -> None:
    path = folder / "tile_00002.png"
    with Image.open(path) as image:
        image.save(path, format="JPEG")


def _color_mask(folder: Path) -> None:
    Image.new("RGB", (304, 304)).save(folder / "tile_00003.png")


def _small_mask(folder: Path) -> None:
    Image.new("L", (304, 300)).save(folder / "tile_00003.png")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (_no_mask, r"The mask .*tile_00001\.png of the .* tile_00001\.png is missing; add"),
        (_no_names, r"lacks its names: write .*classes\.json, a JSON list of class names"),
        (_torn_names, r"classes\.json cannot be read \(.*must hold a JSON list"),
        (_numbers_for_names, r"classes\.json must hold a JSON list of class names"),
        (_names_of_others, r"None of the 15 names in .*classes\.json is a class of the model"),
        (_few_names, r"tile_0000\d\.png holds the value \d+, but .*names only 0 to 0; name it"),
        (_torn_mask, r"tile_00002\.png cannot be read as a PNG .*; save it"),
        (_lossy_mask, r"tile_00002\.png cannot be read as a PNG .*; save it"),
        (_color_mask, r"tile_00003\.png has Pillow's mode RGB; save the class indices"),
        (_small_mask, r"tile_00003\.png has 304 x 300 pixels, but its .* 304 x 304"),
    ],
)
def test_wrong_masks_are_refused_before_anything_is_written(
    forest: Path,
    validate: Validate,
    tmp_path: Path,
    damage: Callable[[Path], None],
    sentence: str,
) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    for path in (forest / "masks").iterdir():
        (masks / path.name).write_bytes(path.read_bytes())
    damage(masks)
    with pytest.raises(UserError, match=sentence) as error:
        validate(tmp_path / "out", "--mask-dir", masks)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")
    assert not (tmp_path / "out").exists()


def test_a_mask_folder_must_exist_and_needs_a_csv(
    validate: Validate,
    checkpoint: Path,
    forest: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(UserError, match="The mask folder nowhere does not exist"):
        validate(tmp_path / "out", "--mask-dir", "nowhere")
    flags = ("--ckpt-path", checkpoint, "--img_dir", forest / "images", "--mask-dir", forest)
    monkeypatch.setattr(sys, "argv", ["val.py", *map(str, flags)])
    with pytest.raises(SystemExit) as left:
        val.main()
    assert left.value.code == 2
    assert "give --csv_path as well" in capsys.readouterr().err


def test_masks_are_found_in_other_spellings_and_names_that_look_alike_are_refused(
    tmp_path: Path,
) -> None:
    (tmp_path / "sub").mkdir()
    Image.fromarray(np.zeros((2, 3), np.uint8)).save(tmp_path / "sub" / "e\u0301.png")
    (tmp_path / "classes.json").write_text(json.dumps(["crab"]))
    folder = MaskFolder(tmp_path, ["crab"])
    assert folder.read("sub\\\xe9.jpg").tolist() == [[0, 0, 0], [0, 0, 0]]
    (tmp_path / "classes.json").write_text(json.dumps(["crab", "\u0441od"]))
    with pytest.raises(UserError, match=r"names '\\u0441od', which looks like .* 'cod' and"):
        MaskFolder(tmp_path, ["crab", "cod"])
