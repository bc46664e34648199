"""The README's figures: same bytes twice, the cells and regions that they should show."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from curve_logs import make_log, size_of
from PIL import Image

from helper_functions.checkpoints.checkpoint import save_checkpoint
from helper_functions.data.splits import read_split_table
from helper_functions.figures import region_maps, vdsm
from helper_functions.figures.__main__ import main
from helper_functions.figures.region_maps import join_neighbors
from helper_functions.forest import CLASSES, make_tile, write_dataset
from helper_functions.runtime.errors import UserError
from helper_functions.tasks.classify.region_maps import RegionMap
from models import create_model
from models.vdsm import VARIANTS, position_distance


def test_cell_features_are_those_of_their_cells() -> None:
    image = np.zeros((28, 28, 3), np.uint8)
    image[:, 14:] = (200, 100, 50)
    features = vdsm.cell_features(image, 2)
    assert features.shape == (1, 16, 2, 2)
    assert (features >= 0).all()
    above, below = features[0, 0], features[0, 8]  # red against the mean of the tile
    torch.testing.assert_close(above, torch.tensor([[0, 100 / 255], [0, 100 / 255]]))
    torch.testing.assert_close(below, torch.tensor([[100 / 255, 0], [100 / 255, 0]]))


@pytest.mark.parametrize("variant", VARIANTS[1:])
def test_every_cell_of_the_tile_votes_once(variant: str) -> None:
    features = vdsm.cell_features(make_tile(vdsm.TILE_SEED).image, vdsm.GRID)
    density = vdsm._density(features, variant)
    distance = position_distance(vdsm.GRID, vdsm.GRID, variant).double().numpy()
    np.testing.assert_allclose((density * len(density) * distance).sum(), vdsm.GRID**2)
    assert not np.tril(density).any()


def test_only_regions_of_several_cells_have_a_color() -> None:
    gray = np.full((28, 28, 3), 100, np.uint8)
    drawn = vdsm._draw_regions(gray, np.array([[0, 0], [0, 1]]))
    assert drawn.getpixel((600, 600)) == (100, 100, 100)
    assert drawn.getpixel((20, 600)) == pytest.approx((60, 106, 131), abs=1)  # 40 % of blue


def test_the_module_makes_all_figures_and_the_same_bytes_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = make_log(tmp_path / "log.csv", [20.0, 45.5, 44.0])
    first, second = tmp_path / "deep" / "first", tmp_path / "second"
    for folder in (first, second):
        main(["--output", str(folder), "--log", str(log), "--chance", "15"])
    assert capsys.readouterr().out == ""
    names = ["demo_curve.png", "vdsm.png"]
    assert sorted(path.name for path in first.iterdir()) == names
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    assert size_of(first / "vdsm.png") == (1400, 835)
    assert (first / "vdsm.png").stat().st_size < 600_000
    with Image.open(first / "vdsm.png") as image:
        assert not image.info.keys() & {"Software", "Creation Time", "date:create"}


def test_without_a_log_one_sentence_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(f"{main.__module__}.draw_vdsm", lambda output: output.write_bytes(b""))
    log = tmp_path / "log.csv"
    main(["--output", str(tmp_path), "--log", str(log)])
    assert capsys.readouterr().out == (
        f"There is no log {log}, so demo_curve.png was left out; make demo writes that log.\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["vdsm.png"]


def test_the_command_complains_under_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "folder"
    monkeypatch.setattr(sys, "argv", ["figures/__main__.py", "--output", str(folder)])
    monkeypatch.delitem(sys.modules, main.__module__)
    with pytest.raises(SystemExit) as left:
        runpy.run_module("helper_functions.figures", run_name="__main__")
    assert left.value.code == 2
    complaint = f"figures: error: The folder {folder} cannot be created: Not a directory.\n"
    assert capsys.readouterr().err == complaint


# Region maps


@pytest.fixture(scope="module")
def forest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiles, and a model of their classes that knows nothing, in one folder."""
    folder = tmp_path_factory.mktemp("forest")
    write_dataset(folder, tiles=12)
    torch.manual_seed(0)
    model = create_model("resnet10t", len(CLASSES), subsampling=True, vdsm="nearest")
    info = {"classes": list(CLASSES), "image_size": 96, "mean": None, "std": None}
    content = {"settings": model.settings, "model": model.state_dict(), "args": {}}
    save_checkpoint(folder / "model.ckpt", {**content, "info": {"task": "x", **info}})
    return folder


def test_region_maps_of_the_first_images_with_several_classes(forest: Path, tmp_path: Path) -> None:
    rows = read_split_table(forest / "splits.csv").split("val")
    expected = [row.filename for row in rows if len(row.labels) > 2][:4]
    assert region_maps.choose_images(forest) == expected
    for name in ("first.png", "second.png"):
        region_maps.draw_region_maps(forest / "model.ckpt", forest, tmp_path / name)
    assert size_of(tmp_path / "first.png") == (1400, 775)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


def test_truth_and_prediction_share_their_colors() -> None:
    mask = np.array([[0, 0, 1, 1], [0, 0, 4, 1]])  # 4: no class of the model
    region_map = RegionMap(np.array([[0, 1]]), np.array([3, 1]), np.array([0.5, 0.5], np.float32))
    colors = region_maps._class_colors(mask, region_map, 4)
    assert colors == ["#E69F00", "#0072B2", None, "#009E73"]  # class 1 takes the most of both
    white = Image.new("RGB", (8, 4), (255, 255, 255))
    truth = np.asarray(region_maps._draw_truth(white, mask, colors, [""] * 4))
    assert (truth[2:, 4:6] == 255).all()
    assert (truth[:2, 4:] == truth[0, 4]).all()
    assert (truth[0, 0] != truth[0, 4]).any()
    prediction = region_maps._draw_prediction(
        Image.new("RGB", (80, 40), (255, 255, 255)), region_map, colors, ["", "", "", ""]
    )
    assert prediction.getpixel((78, 38)) == tuple(truth[0, 4].tolist())


def test_a_forest_without_images_to_show_is_refused(tmp_path: Path) -> None:
    (tmp_path / "splits.csv").write_text("filename,label,split\na.png,['oak'],val\n")
    with pytest.raises(UserError, match=r"No validation image in .* has 3 labels; give"):
        region_maps.choose_images(tmp_path)


def test_neighbors_of_one_class_are_drawn_as_one_region() -> None:
    labels = np.array([[0, 1, 2], [3, 4, 5]])
    classes = np.array([7, 7, 7, 2, 2, 7])
    scores = np.array([0.1, 0.5, 0.3, 0.6, 0.2, 0.9], np.float32)
    joined = join_neighbors(RegionMap(labels, classes, scores))
    assert joined.labels.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert joined.classes.tolist() == [2, 7]
    assert joined.scores.tolist() == pytest.approx([0.6, 0.9])
