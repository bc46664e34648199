"""Points of annotation tools: every format, coordinates, labels, splits, and bad input."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from raw_archives import annotation_tools
from raw_archives.annotation_tools import IMAGES, TOOLS
from raw_archives.conversions import prepare_points, refused, replaced

from helper_functions.data.points import read_points
from helper_functions.prepare.__main__ import main
from helper_functions.runtime.errors import UserError

EVERY_TOOL = pytest.mark.parametrize("tool", TOOLS)


def _close(found: dict[str, list[tuple[Any, ...]]], tool: str) -> None:
    expected = annotation_tools.truth(labels=TOOLS[tool].labels)
    if tool == "dots":  # whole pixels
        expected = {
            name: sorted((int(x + 0.5), int(y + 0.5)) for x, y in rows)
            for name, rows in expected.items()
        }
        found = {name: sorted(rows) for name, rows in found.items()}
    assert set(found) == set(expected)
    for name, rows in expected.items():
        assert [row[2:] for row in found[name]] == [row[2:] for row in rows]
        one, other = (np.array([row[:2] for row in each]) for each in (found[name], rows))
        np.testing.assert_allclose(one, other, atol=2e-6)


@EVERY_TOOL
def test_every_format_gives_the_same_points(tool: str, raw: Path) -> None:
    flags = annotation_tools.write(raw, tool)
    found = prepare_points("points", raw, *flags)
    _close(found.points, tool)
    assert Counter(found.splits.values()) == {"train": 4, "val": 1}
    assert found.manifest["sources"]
    assert sum(found.manifest["points"].values()) == 8
    table = read_points(raw.parent / "out/points.csv", found.splits, labels=TOOLS[tool].labels)
    assert len(table) == 8
    assert table.classes == (annotation_tools.LABELS if TOOLS[tool].labels else ())
    again = prepare_points("points", raw, *flags)  # up to date
    assert again == found


@EVERY_TOOL
def test_a_dry_run_writes_nothing(tool: str, raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = annotation_tools.write(raw, tool)
    out = raw.parent / "out" / "splits.csv"
    main(["points", "--raw-dir", str(raw), "--out", str(out), "--dry-run", *flags])
    assert not out.parent.exists()
    printed = capsys.readouterr().out
    assert "5 images (4 train, 1 val)" in printed
    assert "8 points, 1.60 an image; 1 images have none" in printed


# What damage puts in the place of a few bytes.
_PIECES = (
    *(b"", b"\x00", b"\xff", b"\n", b'"', b",", b";", b"[", b"]", b"{", b"}", b"<", b">", b"../"),
    *(b"null", b"-1", b"1e999", b"9" * 400, b"true", b"\\ud800", b"\xef\xbb\xbf", b"\xc3\xa4"),
    *(b"[]", b"{}", b'""', b"0", b"NaN", b"&x;", b"-"),
)


def _damaged(content: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(max(len(content), 1))
    end = min(start + draw.choice((0, 1, 1, 5)), len(content))
    match draw.randrange(5):
        case 0:
            return content[:start]
        case 1:
            return content[:start] + bytes([draw.randrange(256)]) + content[start + 1 :]
    return content[:start] + draw.choice(_PIECES) + content[end:]


def _values(content: bytes, draw: random.Random) -> bytes:
    """A JSON file in which one value is of another type."""
    try:
        document = json.loads(content)
    except ValueError:
        return _damaged(content, draw)
    node, places = document, []
    while isinstance(node, (dict, list)) and node:
        key = draw.choice(list(node) if isinstance(node, dict) else range(len(node)))
        places.append((node, key))
        node = node[key]
    if not places:
        return content
    owner, key = draw.choice(places)
    owner[key] = draw.choice((None, True, -1, 10**400, 0.5, "", "x", [], {}, [[]], [{}], [None]))
    return json.dumps(document).encode()


@pytest.mark.parametrize("rounds", [40, pytest.param(600, id="thorough", marks=pytest.mark.slow)])
@EVERY_TOOL
def test_damage_anywhere_is_refused_or_read(tool: str, rounds: int, raw: Path) -> None:
    flags = annotation_tools.write(raw, tool)
    out = raw.parent / "out"
    command = ["points", "--raw-dir", str(raw), "--out", str(out / "splits.csv"), *flags]
    path = raw / TOOLS[tool].file
    content = path.read_bytes()
    draw = random.Random(tool)
    ended: Counter[bool] = Counter()
    for number in range(rounds):
        path.write_bytes((_values if number % 2 else _damaged)(content, draw))
        try:
            main([*command, "--outside", draw.choice(("refuse", "clamp"))])
        except UserError as error:
            assert len(str(error)) < 700
            assert not out.exists()
            ended[False] += 1
        else:
            main([*command, "--outside", "clamp", "--overwrite"])
            splits = [line.split(",")[0] for line in (out / "splits.csv").read_text().splitlines()]
            read_points(out / "points.csv", splits[1:], labels=False)
            shutil.rmtree(out)
            ended[True] += 1
    assert ended[False] > 0


def _bomb(raw: Path) -> None:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    text = (raw / "annotations.xml").read_text()
    head = f'<!DOCTYPE annotations [<!ENTITY e0 "boom">{entities}]>'
    text = text.replace("<annotations>", f"{head}<annotations>").replace("7</id>", "&e11;</id>")
    (raw / "annotations.xml").write_text(text)


def _written(name: str, content: str) -> Callable[[Path], object]:
    return lambda raw: (raw / name).write_text(content)


CASES: tuple[tuple[str, Callable[[Path], object], str], ...] = (
    ("csv", replaced("objects.csv", ",x,", ",col,"), "has no column 'x'"),
    ("csv", replaced("objects.csv", "a.png,10,", "a.png,ten,"), "line 2: x is 'ten', not a finite"),
    ("csv", replaced("objects.csv", "a.png,10,", "a.png,nan,"), "line 2: x is 'nan', not a finite"),
    ("csv", replaced("objects.csv", "a.png,10,", ",10,"), "line 2: the file name is empty"),
    ("csv", replaced("objects.csv", "a.png,10,", "a.png,1_0,"), "x is '1_0', not a finite number"),
    ("csv", replaced("objects.csv", "20,crab", "20,"), "no label, but others have"),
    ("csv", replaced("objects.csv", "47,31", "48,31"), "the point (48, 31) lies outside 'a.png'"),
    ("csv", replaced("objects.csv", "47,31", "-3,31"), "line 3: the point (-3, 31) lies outside"),
    ("csv", _written("objects.csv", "filename,x,y\n"), "holds a header but no row"),
    ("csv", lambda raw: (raw / "objects.csv").unlink(), "holds no file that ends in .csv"),
    ("csv", lambda raw: shutil.copy(raw / "objects.csv", raw / "b.csv"), "by --annotations"),
    ("coco", replaced("instances.json", '"image_id": 1', '"image_id": 77'), "there is no image 77"),
    ("coco", replaced("instances.json", '"category_id": 1', '"category_id": 2'), "no category 2"),
    ("coco", replaced("instances.json", '"width": 48', '"width": 96'), "states 96 x 32 pixels"),
    ("coco", replaced("instances.json", '"width": 36, "height": 24', '"width": 24, "height": 36'),
     "rotate its pixels first"),
    ("coco", replaced("instances.json", "[8.5, ", '["8.5", '), "'bbox' is '8.5', not a finite"),
    ("coco", _written("instances.json", "[" * 100_000), "cannot be read as JSON"),
    ("labelme", replaced("annotations/a.json", '"shapes"', '"forms"'), "is no LabelMe file"),
    ("labelme", replaced("annotations/b.json", "images\\\\b", "images\\\\a"), "comes twice"),
    ("labelme", replaced("annotations/a.json", "10.5", "NaN"), "NaN is not a number"),
    ("labelme", _written("annotations/a.json", '{"a":' * 100_000), "cannot be read as JSON"),
    ("cvat", _bomb, "declares a document type"),
    ("cvat", replaced("annotations.xml", "<annotations>", "<html>"), "its root is 'html'"),
    ("cvat", replaced("annotations.xml", "10.5,20.5", "10.5"), "y is '', not a finite number"),
    ("cvat", replaced("annotations.xml", "<meta>", '<track id="0"></track><meta>'), "line 4: tr"),
    ("cvat", _written("annotations.xml", "<annotations></annotations>"), "it names no image"),
    ("cvat", replaced("annotations.xml", 'name="a.png"', 'id="a.png"'), "cannot be read as XML"),
    ("cvat", replaced("annotations.xml", 'name="a.png"', ""), "line 5: the file name is empty"),
    ("cvat", _written("annotations.xml", "<annotations>" * 100_000), "cannot be read as XML"),
    ("via-csv", replaced("via_export_csv.csv", "region_attributes", "attributes"), "has no column"),
    ("via-csv", replaced("via_export_csv.csv", '""cx"": 10.5', '""cx"": '), "is no JSON object"),
    ("via-csv", replaced("via_export_csv.csv", '{""kind"": ""crab""}',
     '{""kind"": ""crab"", ""sex"": ""f""}'), "several attributes (kind, sex)"),
    ("via-json", replaced("via_project.json", '"cx": 10.5', '"cx": "10.5"'), "'cx' is '10.5'"),
    ("via-json", replaced("via_project.json", '"regions": [', '"regions": 3, "x": ['),
     "'regions' is 3, not a list"),
    ("label-studio", replaced("project-3-at-2026.json", '"original_width": 48', '"w": 48'),
     "'original_width' or 'original_height' is missing"),
    ("label-studio", replaced("project-3-at-2026.json", '["crab"]', '["crab", "sea star"]'),
     "has 2 labels"),
    ("label-studio", replaced("project-3-at-2026.json", '"image_rotation": 0',
     '"image_rotation": 90'), "the image was rotated"),
    ("label-studio", _written("project-3-at-2026.json", "{}"), "its content is an object, not a"),
    ("geojson", replaced("annotations/a.geojson", "[10.5, 20.5]", "[10.5]"), "not x and y"),
    ("geojson", replaced("annotations/a.geojson", "20.5]", "-20.5]"), "(10, -21) lies outside"),
    ("geojson-one", replaced("all.geojson", '"filename": "b.png"', '"file": "b.png"'),
     "feature 4 has no property 'filename'"),
    ("dots", lambda raw: Image.new("L", (9, 9)).save(raw / "images/adots.png"),
     "states 9 x 9 pixels"),
    ("dots", lambda raw: Image.new("L", (48, 32)).save(raw / "images/adots.png", "JPEG"),
     "adots.png is no PNG"),
    ("dots", lambda raw: Image.new("L", (48, 32), 7).save(raw / "images/adots.png"),
     "the background has to be"),
    ("yolo", replaced("labels/a.txt", "0 ", "5 "), "names no class 5"),
    ("yolo", replaced("labels/a.txt", " 0.05 0.1", " 0.05"), "line 1 has 4 values"),
    ("yolo", replaced("labels/a.txt", "0 0.2", "0 10.2"), "is no fraction of the image"),
    ("yolo", lambda raw: (raw / "data.yaml").unlink(), "by --class-names, or give --no-labels"),
    ("yolo", _written("data.yaml", "names: [a, [b]]"), "the label is a list of 1, not a text"),
    ("yolo", _written("data.yaml", "[" * 500), "is not a valid YAML file"),
    ("yolo", _written("data.yaml", "[" * 100_000), "it is nested too deeply"),
)  # fmt: skip


@pytest.mark.parametrize(("tool", "damage", "sentence"), CASES)
def test_wrong_content_gets_one_sentence(
    tool: str, damage: Callable[[Path], object], sentence: str, raw: Path
) -> None:
    flags = annotation_tools.write(raw, tool)
    damage(raw)
    refused("points", raw, sentence, *flags)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--dots", "pixels"), "--dots has no use with --from csv"),
        (("--annotations", "none.csv"), "none.csv does not exist; check --annotations"),
        (("--annotations", "images"), "images is a folder"),
        (("--annotations", "x" * 300), "x does not exist; check --annotations"),
        (("--classes", "crabs"), "no point has this label; did you mean 'crab'?"),
        (("--classes", "crab", "--no-labels"), "exclude each other"),
        (("--x-column", "u"), "has no column 'u'"),
        (("--images", "photos"), "--keep-missing"),
        (("--points-out", "p.txt"), "should end in .csv"),
        (("--splits", "s.csv"), "check --splits"),
    ],
)
def test_wrong_flags_get_one_sentence(flags: tuple[str, ...], sentence: str, raw: Path) -> None:
    refused("points", raw, sentence, *annotation_tools.write(raw, "csv"), *flags)


def test_points_outside_are_left_out_or_moved_as_asked(raw: Path) -> None:
    flags = annotation_tools.write(raw, "csv")
    replaced("objects.csv", "47,31", "52,31.75")(raw)
    found = prepare_points("points", raw, *flags, "--outside", "drop")
    assert [row[:2] for row in found.points["a.png"]] == [(10, 20), (2.5, 6)]
    assert found.manifest["points_outside"] == [
        {"filename": "a.png", "where": "objects.csv, line 3", "x": 52, "y": 31.75}
    ]
    assert any("1 point lay outside" in note for note in found.manifest["notes"])
    found = prepare_points("points", raw, *flags, "--outside", "clamp", "--overwrite")
    assert found.points["a.png"][1][:2] == (47, 31)


def test_origins_shift_the_points(raw: Path) -> None:
    flags = (*annotation_tools.write(raw, "csv"), "--outside", "clamp", "--overwrite")
    for origin, shift in (("center", 0), ("corner", 0.5), ("one", 1)):
        found = prepare_points("points", raw, *flags, "--origin", origin)
        assert found.points["a.png"][0][:2] == (10 - shift, 20 - shift)


def test_labels_can_be_chosen_or_left_out(raw: Path) -> None:
    flags = (*annotation_tools.write(raw, "coco"), "--overwrite")
    found = prepare_points("points", raw, *flags, "--classes", "crab")
    assert {row[2] for rows in found.points.values() for row in rows} == {"crab"}
    assert len(found.points) == 5
    found = prepare_points("points", raw, *flags, "--no-labels")
    assert found.points["b.png"] == [(4, 4), (20, 10)]
    assert (raw.parent / "out/splits.csv").read_text().startswith("filename,split\n")


def test_keypoints_of_an_object(raw: Path) -> None:
    flags = (*annotation_tools.write(raw, "coco"), "--overwrite", "--object-point")
    x, y, _ = IMAGES["b.png"].objects[0]  # with keypoints to its left and right
    for choice, expected in (
        ("each", [x - 1.5, x + 0.5]),
        ("first", [x - 1.5]),
        ("box", [x - 0.5]),
    ):
        found = prepare_points("points", raw, *flags, choice, "--outside", "clamp")
        assert [r[0] for r in found.points["b.png"] if r[1] == y - 0.5] == expected
        text = " ".join(found.manifest["notes"])
        assert "Crowd regions (iscrowd), which are left out: 1." in text
        assert ("Objects without a keypoint" in text) == (choice != "box")


def test_splits_can_be_given(raw: Path) -> None:
    flags = annotation_tools.write(raw, "coco")
    (raw / "list.csv").write_text("filename,split\na.png,train\nb.png,val\nd.jpg,test\n")
    found = prepare_points("points", raw, *flags, "--splits", "list.csv")
    assert found.splits == {"a.png": "train", "b.png": "val", "d.jpg": "test"}
    reasons = Counter(entry["reason"] for entry in found.manifest["skipped"])
    assert reasons == {"--splits does not name it": 2}


def test_annotation_files_may_be_one_a_split(raw: Path) -> None:
    flags = annotation_tools.write(raw, "csv")
    header, *rows = (raw / "objects.csv").read_text().splitlines()
    for split, names in (("train", "abd"), ("val", "e")):
        wanted = [row for row in rows if row[0] in names]
        (raw / f"{split}.csv").write_text("\n".join((header, *wanted)) + "\n")
    files = ("--annotations", "train=train.csv", "val=val.csv")
    flags = tuple(flag for flag in flags if flag != "--empty-images")
    found = prepare_points("points", raw, *flags, *files)
    assert found.splits == {"a.png": "train", "b.png": "train", "d.jpg": "train", "e.png": "val"}
    assert found.manifest["skipped"][0]["filename"] == "c.png"


def test_addresses_of_label_studio(raw: Path) -> None:
    """The name is what counts, as images are no more where the tool had them."""
    flags = annotation_tools.write(raw, "label-studio")
    path = raw / "project-3-at-2026.json"
    text = path.read_text()
    expected = prepare_points("points", raw, *flags).points
    for address in (
        *("s3://fish/2026/a.png", "https://x.org/q/a.png?width=3", "http://[x/a.png", "a.png"),
        *("/data/local-files/?d=other%20disk%2Fa.png", "C:\\\\fish\\\\a.png"),
    ):
        path.write_text(text.replace("/data/upload/3/00000001-a.png", address))
        assert prepare_points("points", raw, *flags, "--overwrite").points == expected


def test_dots_of_several_pixels_are_one_object(raw: Path) -> None:
    flags = (*annotation_tools.write(raw, "dots"), "--overwrite")
    mask = np.zeros((32, 48), np.uint8)
    mask[4:7, 10:13] = 200
    mask[20, 30] = mask[21, 31] = 1  # they touch at a corner
    Image.fromarray(mask).save(raw / "images/adots.png")
    found = prepare_points("points", raw, *flags)
    assert sorted(found.points["a.png"]) == [(11, 5), (30.5, 20.5)]
    found = prepare_points("points", raw, *flags, "--dots", "pixels")
    assert len(found.points["a.png"]) == 11


def test_images_of_one_name_are_told_apart_by_their_folders(raw: Path) -> None:
    """As Roboflow exports YOLO: ``train/images``, ``train/labels``, ``valid/images``, ..."""
    images, *flags = (raw / "images", *annotation_tools.write(raw, "yolo")[:-2])
    for folder, numbers in (("train", "abc"), ("valid", "ab")):
        for kind in ("images", "labels"):
            (raw / folder / kind).mkdir(parents=True)
            for path in (raw / kind).glob(f"[{numbers}].*"):
                shutil.copy(path, raw / folder / kind)
    shutil.rmtree(images)
    shutil.rmtree(raw / "labels")
    (raw / "README.dataset.txt").write_text("Fish of two ponds\n")
    files = ("--annotations", "train=train/labels", "val=valid/labels")
    found = prepare_points("points", raw, *flags, *files)
    assert found.splits == {
        **{f"train/images/{name}.png": "train" for name in "abc"},
        **{f"valid/images/{name}.png": "val" for name in "ab"},
    }
    assert prepare_points("points", raw, *flags, out="other/s.csv").points == found.points
    (raw / "valid/images/b.png").unlink()  # that of train is another image
    found = prepare_points("points", raw, *flags, *files, "--overwrite")
    assert found.manifest["skipped"] == [
        {"filename": "valid/images/b", "reason": "the image is not there"}
    ]
    refused("points", raw, "to tell the extension", *flags, *files, "--keep-missing")
    shutil.copy(raw / "train/labels/a.txt", raw / "a.txt")
    refused("points", raw, "holds several images 'a'", *flags, "--annotations", "a.txt")


@pytest.mark.parametrize("tool", ["geojson", "labelme"])
def test_files_of_one_name_belong_to_the_images_of_their_folders(tool: str, raw: Path) -> None:
    flags = annotation_tools.write(raw, tool)
    suffix = Path(TOOLS[tool].file).suffix
    for folder, stem in (("one", "a"), ("two", "b")):
        for kind, name, wanted in (
            ("images", f"{stem}.png", "a.png"),
            ("annotations", stem + suffix, "a" + suffix),
        ):
            (raw / kind / folder).mkdir(exist_ok=True)
            shutil.move(raw / kind / name, raw / kind / folder / wanted)
    path = raw / "annotations" / "two" / f"a{suffix}"
    path.write_text(path.read_text().replace("b.png", "a.png").replace("..\\\\images\\\\", ""))
    path = raw / "annotations" / "one" / f"a{suffix}"
    path.write_text(path.read_text().replace("..\\\\images\\\\", ""))
    found = prepare_points("points", raw, *flags).points
    expected = annotation_tools.truth()
    assert found["one/a.png"] == expected["a.png"]
    assert found["two/a.png"] == expected["b.png"]


def test_a_source_is_not_overwritten(raw: Path) -> None:
    flags = annotation_tools.write(raw, "csv")
    (raw / "objects.csv").rename(raw / "points.csv")
    with pytest.raises(UserError, match="is a file of the raw data set"):
        prepare_points(
            "points", raw, *flags, "--annotations", "points.csv", "--overwrite", out="raw/s.csv"
        )
