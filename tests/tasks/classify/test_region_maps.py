"""Region maps: what they hold, what is drawn, the files, and the resolution of ``val.py``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Outcome, Script, assert_refused, data_flags
from PIL import Image

from helper_functions.checkpoints.checkpoint import load_model, save_checkpoint
from helper_functions.data.images import read_image
from helper_functions.data.transforms import EvalTransform
from helper_functions.results.overlays import OPACITY, draw_labels, draw_texts
from helper_functions.results.style import rgb
from helper_functions.tasks.classify.region_files import label_image, to_json
from helper_functions.tasks.classify.region_maps import (
    RegionMap,
    draw_region_map,
    region_legend,
    region_maps,
    region_predictions,
)
from models import RegionScores, VoLUNet, create_model
from models.volunet import average_to_grid

CLASSES = ["blue", "green", "red"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that knows nothing, but answers different cells differently."""
    torch.manual_seed(8)
    model = create_model("resnet10t", 3, subsampling=True, sub_h=2, sub_w=2, min_superpixels=3)
    path = tmp_path_factory.mktemp("region_maps") / "model.ckpt"
    info = {"task": "classify", "classes": CLASSES, "image_size": 160, "mean": None}
    info["std"] = None
    content = {"settings": model.settings, "model": model.eval().state_dict(), "info": info}
    save_checkpoint(path, {**content, "args": {}})
    return path


Val = Callable[..., Outcome]


@pytest.fixture
def run_val(run_here: Script, checkpoint: Path, tiny_set: Path, tmp_path: Path) -> Val:
    """Runs ``val.py`` on the tiny set, its results in ``out``."""

    def run(*flags: object, labelled: bool = True) -> Outcome:
        data = data_flags(tiny_set) if labelled else ("--img_dir", tiny_set / "images")
        fixed = ("--device", "cpu", "-j", 0, "-b", 4, "--ckpt-path", checkpoint)
        return run_here("val.py", *data, *fixed, "--output", tmp_path / "out", *flags)

    return run


def test_a_batch_is_split_into_its_images() -> None:
    labels = torch.tensor([[[0, 0], [1, 2]], [[0, 1], [1, 0]], [[0, 0], [0, 0]]])
    logits = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    predictions = region_predictions(RegionScores(torch.zeros(3, 5), labels, logits))
    maps = region_maps(predictions, temperature=2.0)
    assert [len(found.classes) for found in maps] == [3, 2, 1]
    assert [found.cells.tolist() for found in maps] == [[2, 1, 1], [2, 2], [4]]
    row = 0
    for found, label in zip(maps, labels, strict=True):
        np.testing.assert_array_equal(found.labels, label)
        for class_index, score in zip(found.classes, found.scores, strict=True):
            assert class_index == int(np.argmax(logits[row].numpy()))
            assert score == pytest.approx(1 / (1 + np.exp(-float(logits[row].max()) / 2)))
            row += 1


@pytest.mark.parametrize("vdsm", ["released", "corrected", "nearest"])
@pytest.mark.parametrize("grid", [(2, 2), (3, 5), (5, 5)])
def test_a_grid_of_its_own(grid: tuple[int, int], vdsm: str) -> None:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"sub_h": 4, "sub_w": 4, "min_superpixels": 6, "vdsm": vdsm}
    model = create_model("resnet10t", 3, subsampling=True, **settings).eval()
    features = torch.rand(2, 512, 5, 5)
    cells, labels = model.superpixels(features, grid)
    assert labels.shape == (2, *grid)
    torch.testing.assert_close(cells, average_to_grid(features, *grid))
    if grid == (2, 2):  # fewer cells than regions: every cell is one
        assert [np.unique(label).size for label in labels] == [4, 4]
    else:
        assert all(6 <= np.unique(label).size < labels[0].numel() for label in labels)
    model.config = replace(model.config, min_superpixels=0)
    _, labels = model.superpixels(features, grid)
    assert [np.unique(label).size for label in labels] == [grid[0] * grid[1]] * 2


def test_the_legend_ranks_classes_by_area() -> None:
    region_map = RegionMap(
        np.array([[0, 0, 1], [2, 3, 3]]),
        np.array([1, 0, 2, 1]),
        np.array([0.2, 0.5, 0.6, 0.9], np.float32),
    )
    legend = region_legend(region_map, CLASSES)
    assert list(legend) == [1, 0, 2]  # of equal areas the lower class first
    assert [entry.letter for entry in legend.values()] == ["A", "B", "C"]
    assert [entry.name for entry in legend.values()] == ["green", "blue", "red"]
    assert [entry.detail for entry in legend.values()] == ["0.90, 0.20", "0.50", "0.60"]
    assert len({entry.color for entry in legend.values()}) == 3


def test_of_many_scores_the_legend_gives_the_range() -> None:
    scores = np.array([0.5, 0.1, 0.9, 0.2, 0.3], np.float32)
    region_map = RegionMap(np.array([[0, 1, 2, 3, 4]]), np.zeros(5, np.int64), scores)
    assert region_legend(region_map, ["oak"])[0].detail == "0.10 to 0.90 in 5 regions"


@pytest.mark.parametrize("size", [(48, 40), (2000, 900)])
def test_a_region_map_is_drawn_with_the_colors_of_its_legend(size: tuple[int, int]) -> None:
    region_map = RegionMap(np.array([[0, 1], [0, 1]]), np.array([2, 0]), np.array([0.5, 0.25]))
    legend = region_legend(region_map, CLASSES)
    drawn = draw_region_map(Image.new("RGB", size, (255, 255, 255)), region_map, legend, 600)
    assert max(drawn.size) == (300 if size[0] < 300 else 600)
    for x, k in ((0.03, 2), (0.97, 0)):
        pixel = drawn.getpixel((int(x * drawn.width), drawn.height // 8))
        tinted = [255 - OPACITY * (255 - channel) for channel in rgb(legend[k].color)]
        assert pixel == pytest.approx(tinted, abs=1)


def test_scores_are_left_out_where_a_cell_is_too_narrow() -> None:
    labels = np.arange(400).reshape(20, 20)
    region_map = RegionMap(labels, np.zeros(400, np.int64), np.ones(400, np.float32))
    legend = region_legend(region_map, ["oak"])
    image = Image.new("RGB", (600, 600), (255, 255, 255))
    drawn = draw_region_map(image, region_map, legend, 600)
    expected = draw_labels(image, labels, [legend[0].color] * 400)
    draw_texts(expected, labels, ["A"] * 400, 600 / 26)
    assert drawn.tobytes() == expected.tobytes()


def test_many_regions_need_16_bits() -> None:
    labels = np.arange(400).reshape(20, 20)
    found = RegionMap(labels, np.zeros(400, np.int64), np.ones(400, np.float32))
    image = label_image(found, 40, 60)
    np.testing.assert_array_equal(np.asarray(image)[1::2, 1::3], labels)
    assert to_json(found, "a.png", (60, 40), ["one"])["grid"] == [20, 20]


@pytest.mark.parametrize("labelled", [True, False])
def test_region_files(
    run_val: Val, checkpoint: Path, tiny_set: Path, tmp_path: Path, labelled: bool
) -> None:
    done = run_val("--regions", labelled=labelled)
    assert done.status == 0, done.errors
    folder = tmp_path / "out" / "regions"
    assert f"images are in {folder}." in done.printed
    model = load_model(checkpoint)
    assert isinstance(model, VoLUNet)
    images = sorted((tiny_set / "images").iterdir())
    if labelled:
        images = images[2::3]
    endings = (".json", ".labels.png", ".overlay.png")
    expected = {f"{path.name}{ending}" for path in images for ending in endings}
    assert {path.name for path in folder.iterdir()} == expected
    names = set()
    for path in images:
        transform = EvalTransform(160)
        pixels, _ = transform(read_image(path))
        scores = model.score_regions(pixels[None].float() / 255)
        content: dict[str, Any] = json.loads((folder / f"{path.name}.json").read_text())
        assert content["filename"] == path.name
        assert (content["width"], content["height"]) == (48, 40)
        assert content["labels"] == scores.labels[0].tolist()
        for region, entry in enumerate(content["regions"]):
            logits = scores.region_logits[region]
            assert entry["region"] == region
            assert entry["class"] == CLASSES[int(logits.argmax())]
            assert entry["score"] == pytest.approx(logits.max().sigmoid().item(), abs=2e-6)
            assert entry["cells"] == int((scores.labels == region).sum())
            names.add(entry["class"])
        with Image.open(folder / f"{path.name}.labels.png") as image:
            values = np.asarray(image)
        # Cells of 24 x 20 pixels.
        np.testing.assert_array_equal(values, np.kron(content["labels"], np.ones((20, 24))))
    assert len(names) > 1


def test_the_grid_is_chosen_for_files_and_masks(
    run_val: Val, tiny_set: Path, tmp_path: Path
) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    (masks / "classes.json").write_text(json.dumps(CLASSES))
    for path in (tiny_set / "images").iterdir():
        Image.new("L", (48, 40), 1).save(masks / path.name)
    done = run_val("--regions", "--superpixel-grid", "5x4", "--mask-dir", masks)
    assert done.status == 0, done.errors
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["region_grid"] == [5, 4]
    for path in (tmp_path / "out" / "regions").glob("*.json"):
        content = json.loads(path.read_text())
        assert content["grid"] == [5, 4]
        assert len(content["regions"]) >= 3


@pytest.mark.parametrize(
    ("grid", "sentence"),
    [
        (6, "--superpixel-grid asks for 6 x 6 cells, but the feature map of"),
        ("5x6", "has 5 x 5; lower it, or raise --image-size."),
        (0, "a grid needs cells"),
        ("4x", "argument --superpixel-grid"),
        ("many", "invalid grid such as 7 or 6x8 value: 'many'"),
    ],
)
def test_grids_that_cannot_be_are_refused(
    run_val: Val, tmp_path: Path, grid: object, sentence: str
) -> None:
    assert_refused(run_val("--superpixel-grid", grid), sentence, tmp_path / "out")


def test_names_in_folders_and_of_equal_stem(
    run_here: Script, checkpoint: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    (photos / "dive").mkdir(parents=True)
    for name in ("a.png", "a.jpg", "dive/a.png"):
        Image.new("RGB", (30, 20), (9, 9, 99)).save(photos / name)
    fixed = ("--device", "cpu", "-j", 0, "--ckpt-path", checkpoint, "--regions")
    done = run_here("val.py", "--img_dir", photos, *fixed, "--output", tmp_path / "out")
    assert done.status == 0, done.errors
    found = {path.relative_to(tmp_path / "out" / "regions") for path in tmp_path.rglob("*.json")}
    assert found == {Path("a.png.json"), Path("a.jpg.json"), Path("dive/a.png.json")}


def test_files_stay_in_their_folder_and_unreadable_images_are_left_out(
    run_here: Script, checkpoint: Path, tmp_path: Path
) -> None:
    for name in ("near.png", "lists/far.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (30, 20), (9, 9, 99)).save(tmp_path / name)
    (tmp_path / "torn.png").write_bytes(b"torn")
    names = ["../near.png", str(tmp_path / "near.png"), "../torn.png", "far.png"]
    (tmp_path / "lists" / "list.txt").write_text("\n".join(names))
    source, output = tmp_path / "lists" / "list.txt", tmp_path / "out"
    fixed = ("--device", "cpu", "-j", 0, "--ckpt-path", checkpoint, "--regions", "--skip-bad")
    done = run_here("val.py", "--img_dir", source, *fixed, "--output", output)
    assert done.status == 0, done.errors
    found = {path.relative_to(output / "regions") for path in tmp_path.rglob("*.json")}
    absolute = (tmp_path / "near.png").relative_to(tmp_path.anchor)
    assert found == {Path("near.png.json"), Path(f"{absolute}.json"), Path("far.png.json")}


def test_long_names_and_names_that_meet_lose_no_file(
    run_here: Script, checkpoint: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    long = "\xe9" * 125 + "x.png"  # 255 bytes
    for name in (long, "a.png", "A.png", "../a.png"):
        Image.new("RGB", (30, 20), (9, 9, 99)).save(photos / name)
    names = [long, "a.png", "A.png", "../a.png"]
    (photos / "list.txt").write_text("\n".join(names), encoding="utf-8")
    fixed = ("--device", "cpu", "-j", 0, "--ckpt-path", checkpoint, "--regions")
    source = photos / "list.txt"
    done = run_here("val.py", "--img_dir", source, *fixed, "--output", tmp_path / "out")
    assert done.status == 0, done.errors
    folder = tmp_path / "out" / "regions"
    written = [json.loads(path.read_text())["filename"] for path in folder.rglob("*.json")]
    assert sorted(written) == sorted(names)
    assert len(list(folder.rglob("*.png"))) == 2 * len(names)
    for path in folder.rglob("*.json"):  # the three files of an image share their name
        stem = path.name.removesuffix(".json")
        assert (folder / f"{stem}.overlay.png").is_file()
        assert (folder / f"{stem}.labels.png").is_file()


def test_a_folder_of_links_is_scored_and_what_is_left_out_is_noted(
    run_here: Script, checkpoint: Path, tmp_path: Path
) -> None:
    for name in ("photos/a.png", "far/b.png", "far/deep/c.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30, 20), (9, 9, 99)).save(tmp_path / name)
    (tmp_path / "photos" / "link").symlink_to(tmp_path / "far")
    (tmp_path / "photos" / "d.heic").touch()
    fixed = ("--device", "cpu", "-j", 0, "--ckpt-path", checkpoint)
    done = run_here("val.py", "--img_dir", tmp_path / "photos", *fixed, "--output", tmp_path / "o")
    assert done.status == 0, done.errors
    rows = (tmp_path / "o" / "predictions.csv").read_text().splitlines()[1:]
    found = [row.partition(",")[0] for row in rows]
    assert found == ["a.png", "link/b.png", "link/deep/c.png"]
    assert "Note: 1 file with an ending that cannot be read (.heic) was left out;" in done.printed
