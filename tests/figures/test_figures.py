"""The README's figures: readable SVG, same bytes twice, logs of every kind."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from helper_functions.checkpoints.checkpoint import save_checkpoint
from helper_functions.data.splits import read_split_table
from helper_functions.figures import architecture, region_maps, vdsm
from helper_functions.figures.__main__ import main
from helper_functions.forest import CLASSES, make_tile, write_dataset
from helper_functions.results import curves, style
from helper_functions.results.training_log import TrainingLog
from helper_functions.runtime.errors import UserError
from helper_functions.tasks.classify.region_maps import RegionMap
from models import create_model
from models.vdsm import VARIANTS, position_distance

SVG = "{http://www.w3.org/2000/svg}"


def log_row(epoch: int, score: float = 20.0) -> dict[str, float]:
    return {
        "epoch": epoch,
        "step": 10 * epoch,
        "lr": 2e-4 / epoch,
        "loss": 160.0,
        "loss_per_label": 0.7 / epoch,
        "val_mAP": score,
        "seconds": 3.0,
    }


def make_log(path: Path, scores: list[float]) -> Path:
    log = TrainingLog(path)
    for epoch, score in enumerate(scores, 1):
        log.write(log_row(epoch, score))
    return path


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        picture.load()
        return picture.size


@pytest.fixture(scope="module")
def svg() -> ElementTree.Element:
    return ElementTree.fromstring(architecture.architecture_svg())


def texts(svg: ElementTree.Element) -> Iterator[tuple[str, float, float, float, float]]:
    """Every text with its left, right, top and bottom, by a generous width of a letter."""
    for element in svg.iter(f"{SVG}text"):
        text, size = element.text or "", float(element.attrib["font-size"])
        x, y = float(element.attrib["x"]), float(element.attrib["y"])
        bold = "font-weight" in element.attrib
        width = len(text) * size * (0.66 if bold else 0.6)
        left = {"start": x, "middle": x - width / 2, "end": x - width}[
            element.attrib["text-anchor"]
        ]
        yield text, left, left + width, y - size, y + 0.25 * size


def test_the_architecture_names_every_part(svg: ElementTree.Element) -> None:
    words = " ".join(text for text, *_ in texts(svg))
    for term in (
        "Backbone", "TResNet", "timm", "Feature map", "(B, C, H, W)", "Global average pool",
        "WIC-Classifier", "KAN", "logits", "ASL", "Adaptive pool", "sub_h", "VDSM", "superpixels",
        "Region means", "Local-NMS", "shared weights", "training only", "Scale channels",
        "Affinity", "Every cell votes", "Densest edges", "Merge",
    ):  # fmt: skip
        assert term in words, term


def test_no_text_leaves_the_picture(svg: ElementTree.Element) -> None:
    _, _, width, height = map(float, svg.attrib["viewBox"].split())
    for text, left, right, top, bottom in texts(svg):
        assert left >= 8, text
        assert right <= width - 8, text
        assert top >= 8, text
        assert bottom <= height - 8, text


def test_no_two_texts_overlap(svg: ElementTree.Element) -> None:
    placed = list(texts(svg))
    for number, (text, left, right, top, bottom) in enumerate(placed):
        for other, other_left, other_right, other_top, other_bottom in placed[:number]:
            apart = right <= other_left or other_right <= left
            apart = apart or bottom <= other_top or other_bottom <= top
            assert apart, f"{text!r} and {other!r}"


@pytest.mark.parametrize("box", architecture.BOXES, ids=lambda box: f"{box.name} at {box.y}")
def test_the_lines_of_a_box_fit_into_it(box: architecture.Box) -> None:
    assert len(box.name) * 13 * 0.66 <= box.width
    assert all(len(line) * 12 * 0.6 <= box.width for line in box.lines)
    assert architecture.LINE_HEIGHT * (len(box.lines) + 1) <= box.height


def test_the_svg_needs_nothing_from_outside_and_has_its_own_ground() -> None:
    text = architecture.architecture_svg()
    assert not re.search(r"<image|href|url\(|@font-face|<script|<style", text)
    first_shape = text[text.index("<rect") :].split("/>")[0]
    assert style.PAPER in first_shape
    assert 'rx="' in first_shape


def test_the_examples_votes_are_one_a_cell_and_give_its_regions() -> None:
    assert sum(votes for *_, votes in architecture.EXAMPLE_EDGES) == 16
    kept = [
        (a, b)
        for a, b, votes in architecture.EXAMPLE_EDGES
        if votes >= np.hypot(*np.subtract(a, b))
    ]
    assert len(kept) == 16 - 3
    assert all(
        architecture.EXAMPLE[a[0]][a[1]] == architecture.EXAMPLE[b[0]][b[1]] for a, b in kept
    )


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


def test_outlines_follow_the_regions() -> None:
    labels = np.array([[0, 0], [0, 1]])
    assert vdsm.outlines(labels) == [[(1, 1), (1, 2)], [(1, 1), (2, 1)]]


def test_the_module_makes_all_figures_and_the_same_bytes_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = make_log(tmp_path / "log.csv", [20.0, 45.5, 44.0])
    first, second = tmp_path / "deep" / "first", tmp_path / "second"
    for folder in (first, second):
        main(["--output", str(folder), "--log", str(log), "--chance", "15"])
    assert capsys.readouterr().out == ""
    names = ["architecture.svg", "demo_curve.png", "vdsm.png"]
    assert sorted(path.name for path in first.iterdir()) == names
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    ElementTree.parse(first / "architecture.svg")
    assert size_of(first / "vdsm.png") == (1400, 835)
    assert (first / "vdsm.png").stat().st_size < 600_000
    with Image.open(first / "vdsm.png") as picture:
        assert not picture.info.keys() & {"Software", "Creation Time", "date:create"}


def test_without_a_log_one_sentence_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(f"{main.__module__}.draw_vdsm", lambda output: output.write_bytes(b""))
    log = tmp_path / "log.csv"
    main(["--output", str(tmp_path), "--log", str(log)])
    assert capsys.readouterr().out == (
        f"There is no log {log}, so demo_curve.png was left out; make demo writes that log.\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["architecture.svg", "vdsm.png"]


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


@pytest.mark.parametrize(
    ("scores", "chance"),
    [
        ([20.0], None),
        ([20.0], 12.5),
        ([30.0, float("nan"), 20.0, float("inf")], None),
        ([float("nan")], 12.5),
        ([0.0], None),
        ([50.0] * 60, 12.5),
    ],
    ids=["one row", "chance", "a gap", "no score", "zero", "many rows"],
)
@pytest.mark.filterwarnings("error")
def test_curves_of_logs_of_any_length(
    tmp_path: Path, scores: list[float], chance: float | None
) -> None:
    log = make_log(tmp_path / "log.csv", scores)
    curves.draw_curves(log, tmp_path / "curve.png", chance)
    assert size_of(tmp_path / "curve.png") == (900, 660)


def test_the_best_epoch_counts_from_one(tmp_path: Path) -> None:
    axes = Figure().subplots()
    columns = curves.read_curves(make_log(tmp_path / "log.csv", [20.0, 45.5, 45.5, 44.0]))
    curves._mark_scores(axes, columns["epoch"], columns["val_mAP"], 15.0)
    assert axes.get_title("right") == "ringed: best, 45.5 % in epoch 2; dashed: chance, 15.0 %"


def test_a_chance_above_every_score_is_in_the_picture(tmp_path: Path) -> None:
    axes = Figure().subplots()
    columns = curves.read_curves(make_log(tmp_path / "log.csv", [20.0]))
    curves._mark_scores(axes, columns["epoch"], columns["val_mAP"], 60.0)
    assert axes.get_ylim()[1] > 60


HEADER = ",".join(log_row(1))
GOOD = ",".join(str(value) for value in log_row(1).values())


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "The log LOG does not exist; train.py writes one in its output folder."),
        (b"", "The log LOG holds no epoch yet; wait until train.py has finished one."),
        (HEADER.encode(), "The log LOG holds no epoch yet; wait until train.py has finished one."),
        (
            HEADER.replace("val_mAP", "x").encode() + b"\n" + GOOD.encode(),
            "The log LOG lacks the column val_mAP; give a log.csv of train.py.",
        ),
        (
            f"{HEADER}\n{GOOD}\n{GOOD.replace('0.0002', 'oops')}\n".encode(),
            "The log LOG has 'oops' as lr in line 3, where a number is due.",
        ),
        (
            f"{HEADER}\nnan{GOOD[1:]}\n".encode(),
            "The log LOG has an epoch without a number; give a log.csv of train.py.",
        ),
        (
            f"{HEADER}\n0,10\n".encode(),
            "The log LOG lacks a value for lr in line 2, where a number is due.",
        ),
    ],
    ids=[
        "absent",
        "empty",
        "only a header",
        "a column missing",
        "no number",
        "no epoch",
        "a torn row",
    ],
)
def test_a_bad_log_gets_one_sentence(tmp_path: Path, content: bytes | None, complaint: str) -> None:
    log = tmp_path / "log.csv"
    if content is not None:
        log.write_bytes(content)
    with pytest.raises(UserError) as caught:
        curves.draw_curves(log, tmp_path / "curve.png")
    assert str(caught.value) == complaint.replace("LOG", str(log))
    assert not (tmp_path / "curve.png").exists()


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\xff\xfe", b"a,b\n\xff,1\n"])
def test_a_log_that_is_no_text(tmp_path: Path, content: bytes) -> None:
    log = tmp_path / "log.csv"
    log.write_bytes(content)
    with pytest.raises(UserError, match=r"^The log \S+ cannot be read as CSV: .*\.$"):
        curves.read_curves(log)


def test_pictures_can_have_a_palette(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    style.write_png(Figure(figsize=(1, 1), dpi=4, facecolor="#0AC81E"), path, colours=256)
    with Image.open(path) as picture:
        assert picture.mode == "P"
        assert picture.convert("RGB").getpixel((2, 2)) == (10, 200, 30)


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


def test_region_maps_of_the_first_pictures_with_several_classes(
    forest: Path, tmp_path: Path
) -> None:
    rows = read_split_table(forest / "splits.csv").split("val")
    expected = [row.filename for row in rows if len(row.labels) > 2][:4]
    assert region_maps.choose_pictures(forest) == expected
    for name in ("first.png", "second.png"):
        region_maps.draw_region_maps(forest / "model.ckpt", forest, tmp_path / name)
    assert size_of(tmp_path / "first.png") == (1400, 775)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


def test_truth_and_prediction_share_their_colours() -> None:
    mask = np.array([[0, 0, 1, 1], [0, 0, 4, 1]])  # 4: no class of the model
    found = RegionMap(np.array([[0, 1]]), np.array([3, 1]), np.array([0.5, 0.5], np.float32))
    colours = region_maps._colours(mask, found, 4)
    assert list(colours) == [1, 0, 3]
    assert len(set(colours.values())) == 3
    white = Image.new("RGB", (8, 4), (255, 255, 255))
    pixels = region_maps._tinted(white, mask, colours)
    assert (pixels[2:, 4:6] == 255).all()
    assert (pixels[:2, 4:] == pixels[0, 4]).all()
    assert (pixels[0, 0] != pixels[0, 4]).any()


def test_a_forest_without_pictures_to_show_is_refused(tmp_path: Path) -> None:
    (tmp_path / "splits.csv").write_text("filename,label,split\na.png,['oak'],val\n")
    with pytest.raises(UserError, match=r"No validation picture in .* has 3 labels; give"):
        region_maps.choose_pictures(tmp_path)
