"""The check before the run: every fault and note, the report's figures, its chart."""

from __future__ import annotations

import csv
import difflib
import json
import random
import shutil
import string
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SMALL, Command, Script, data_flags
from matplotlib.figure import Figure
from PIL import Image

from helper_functions.check_data import chart
from helper_functions.check_data import images as check_images
from helper_functions.check_data.__main__ import check, main
from helper_functions.check_data.chart import cooccurrence, draw_classes
from helper_functions.check_data.images import DecodedImage, decode_all
from helper_functions.check_data.labels import ClassCounts
from helper_functions.check_data.report import to_text
from helper_functions.check_data.rows import check_for_training
from helper_functions.check_data.spelling import SIMILARITY, Names, suspects
from helper_functions.data.splits import TWO_SPLITS, Sample, SplitTable, read_split_table
from helper_functions.results.style import write_png
from helper_functions.runtime.errors import UserError


def _image(path: Path, number: int, mode: str = "RGB", size: tuple[int, int] = (8, 6)) -> None:
    """A small image that no other number gives."""
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path)


def _set(folder: Path, *rows: str, images: bool = True) -> dict[str, Any]:
    """Write rows, and an image for every file that they name; the report on them."""
    path = folder / "splits.csv"
    path.write_text("\n".join(("filename,label,split", *rows)) + "\n", encoding="utf-8")
    (folder / "images").mkdir(exist_ok=True)
    if images:
        for number, row in enumerate(rows):
            name = row.split(",")[0]
            if name and not (folder / "images" / name).exists():
                _image(folder / "images" / name, number)
    return check(path, folder / "images")[0]


def _found(findings: list[dict[str, Any]]) -> dict[str, list[str]]:
    assert all(finding["count"] == len(finding["examples"]) for finding in findings)
    return {finding["kind"]: finding["examples"] for finding in findings}


GOOD = ("a.png,['x'],train", "b.png,['x'],val")


def test_a_good_set_is_ready(tiny_set: Path, tmp_path: Path, capsys: Any) -> None:
    flags = map(str, (*data_flags(tiny_set), "--output", tmp_path / "out", "--workers", 2))
    main(list(flags))
    printed = capsys.readouterr().out
    assert "18 usable rows, 3 classes" in printed
    assert "Ready to train." in printed
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["usable"] is True
    assert report["faults"] == report["notes"] == []
    assert report["sizes"] == [{"width": 48, "height": 40, "images": 18}]
    assert report["formats"] == {"PNG RGB": 18}
    with (tiny_set / "splits.csv").open() as file:
        rows = list(csv.DictReader(file))
    for figures in report["classes"]:
        for split in ("train", "val", "test"):
            expected = sum(r["split"] == split and figures["name"] in r["label"] for r in rows)
            assert figures[split] == expected
    labels = [row["label"].count("'") / 2 for row in rows if row["split"] == "train"]
    assert report["splits"]["train"] == {
        "rows": 12,
        "labels_per_image": pytest.approx(np.mean(labels)),
        "without_label": 0,
    }
    with Image.open(tmp_path / "out" / "classes.png") as image:
        assert image.width == 1500


def test_all_faults_are_listed_and_the_status_is_2(command: Command, tmp_path: Path) -> None:
    images = tmp_path / "images"
    _image(images / "good.png", 0)
    _image(images / "deep" / "Case.PNG", 1)
    (images / "broken.png").write_bytes((images / "good.png").read_bytes()[:60])
    (images / "text.png").write_text("no image")
    (images / "loop.png").symlink_to("loop.png")
    rows = (
        "good.png,['x'],train",
        "deep/case.png,['x'],train",
        "broken.png,['x'],train",
        "text.png,['y'],val",
        "loop.png,['y'],val",
        "gone.png,['y'],test",
        "gone.png,['y'],valid",
        "a.png,,train",
        "../b.png,['x'],trian",
        "good.png,['x'],val",
        "short.png",
    )
    (tmp_path / "splits.csv").write_text("filename,label,split\n" + "\n".join(rows) + "\n")
    done = command(
        *("-m", "helper_functions.check_data", *data_flags(tmp_path), "--limit", 2),
        *("--output", tmp_path / "deep"),
    )
    assert done.returncode == 2
    report = json.loads((tmp_path / "deep" / "report.json").read_text())
    assert report["usable"] is False
    counts = {finding["kind"]: finding["count"] for finding in report["faults"]}
    assert counts == {
        "unknown-split": 2,
        "no-label": 1,
        "outside-the-folder": 1,
        TWO_SPLITS: 1,
        "short-row": 1,
        "unreadable-image": 4,
    }
    examples = {finding["kind"]: finding["examples"] for finding in report["faults"]}
    assert len(examples["unreadable-image"]) == 2
    assert examples["unreadable-image"][0] == (
        "Line 3: 'deep/case.png' cannot be read: there is no such file, but the folder has "
        "'Case.PNG'."
    )
    assert "Line 4: 'broken.png' cannot be read:" in examples["unreadable-image"][1]
    assert _found(report["notes"])["unreadable-test-image"] == [
        "Line 7: 'gone.png' cannot be read: there is no such file."
    ]
    assert "... 2 more ..." in done.stdout
    assert "unreadable image: 4" in done.stdout
    assert len(done.stderr.strip().splitlines()) == 1
    assert "found 10 faults; fix what the report lists" in done.stderr
    with pytest.raises(UserError) as first:
        read_split_table(tmp_path / "splits.csv")
    assert str(first.value) in done.stderr


@pytest.mark.parametrize(
    ("text", "kind", "sentence"),
    [
        (None, "unusable-csv", "does not exist; check --csv_path"),
        (b"", "unusable-csv", "is empty"),
        (b"filename;label;split\n", "unusable-csv", "Use commas between the columns"),
        (b"filename,label,split\na.png,['\xea'],train\n", "unusable-csv", "is not UTF-8"),
        (b"filename,label,split\n", "unusable-csv", "holds a header but no image"),
        (b"filename,label,split\na.png,[],train\n", "unusable-csv", "names no class"),
        (b"filename,label,split\na.png,['x'],train\n", "empty-split", "to the split val"),
        (b"filename,label,split\na.png,['x'],val\n", "empty-split", "to the split train"),
    ],
)
def test_a_table_that_no_run_can_use(
    tmp_path: Path, text: bytes | None, kind: str, sentence: str, capsys: Any
) -> None:
    _image(tmp_path / "images" / "a.png", 0)
    if text is not None:
        (tmp_path / "splits.csv").write_bytes(text)
    with pytest.raises(UserError, match=r"found 1 fault; fix"):
        main(list(map(str, (*data_flags(tmp_path), "--output", tmp_path / "out"))))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    (example,) = _found(report["faults"])[kind]
    assert sentence in example
    assert example in capsys.readouterr().out
    assert not list((tmp_path / "out").glob(".*"))


def test_a_missing_image_folder_is_one_fault(tmp_path: Path) -> None:
    (tmp_path / "splits.csv").write_text("\n".join(("filename,label,split", *GOOD)))
    report = check(tmp_path / "splits.csv", tmp_path / "nowhere")[0]
    (example,) = _found(report["faults"])["no-image-folder"]
    assert example == (f"The image folder {tmp_path / 'nowhere'} does not exist; check --img_dir.")
    assert len(report["faults"]) == 1


def test_rows_given_twice(tmp_path: Path) -> None:
    report = _set(tmp_path, *GOOD, "a.png,['x'],train", "b.png,\"['x', 'y']\",val")
    assert list(_found(report["faults"])) == ["contradictory-rows"]
    assert "Lines 3 and 5 give 'b.png' different labels" in report["faults"][0]["examples"][0]
    (repeated,) = _found(report["notes"])["row-given-twice"]
    assert "Line 4 repeats line 2" in repeated


def test_one_image_under_several_names(tmp_path: Path) -> None:
    images = tmp_path / "images"
    _image(images / "a.png", 7)
    Image.open(images / "a.png").save(images / "same.bmp")  # other bytes, equal pixels
    shutil.copy(images / "a.png", images / "copy.png")
    # The same bytes in another shape are another image.
    Image.new("RGB", (4, 9)).save(images / "tall.png")
    Image.new("RGB", (9, 4)).save(images / "wide.png")
    report = _set(
        tmp_path,
        *("a.png,['x'],train", "same.bmp,['x'],val", "copy.png,['y'],train"),
        *("./a.png,['x'],train", "tall.png,['y'],train", "wide.png,['y'],val"),
    )
    (across,) = _found(report["faults"])[TWO_SPLITS]
    assert across.startswith(
        "Line 3: 'same.bmp' has the same pixels as the image of line 2, 'a.png'"
    )
    assert "the splits are val and train" in across
    notes = _found(report["notes"])["image-under-two-names"]
    assert "'copy.png'" in notes[0] and "with other labels" in notes[0]
    assert "'./a.png'" in notes[1] and "with the same labels" in notes[1]
    assert len(notes) == 2


def test_classes_that_a_split_lacks(tmp_path: Path) -> None:
    report = _set(tmp_path, *GOOD, "c.png,['late'],val", "d.png,['early'],train")
    notes = _found(report["notes"])
    assert report["usable"] is True
    assert "'late'" in notes["class-without-training-image"][0]
    assert "'early'" in notes["class-without-validation-image"][0]
    assert len(notes) == 2


def test_unknown_labels_are_named_with_the_nearest(tmp_path: Path) -> None:
    _set(tmp_path, "a.png,['Abeis'],train", "b.png,['Abies'],val", "c.png,['Quux'],val")
    names = tmp_path / "names.txt"
    names.write_text("Abies\n\nPinus\n")
    report = check(tmp_path / "splits.csv", tmp_path / "images", names)[0]
    first, second = _found(report["faults"])["unknown-label"]
    assert first.startswith("The class 'Abeis' (1 image) is not in")
    assert first.endswith("Did you mean 'Abies'?")
    assert "'Quux'" in second and "Did you mean" not in second
    names.write_text("\n")
    with pytest.raises(UserError, match="names no class"):
        check(tmp_path / "splits.csv", tmp_path / "images", names)
    with pytest.raises(UserError, match=r"none\.txt cannot be read"):
        check(tmp_path / "splits.csv", tmp_path / "images", tmp_path / "none.txt")


def test_sizes_and_formats_are_counted(tmp_path: Path) -> None:
    _image(tmp_path / "images" / "a.png", 0, "L", (5, 9))
    _image(tmp_path / "images" / "b.png", 1, "RGBA")
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (5, 9)).save(tmp_path / "images" / "c.jpg", exif=turned)
    _set(tmp_path, *GOOD, "c.jpg,['x'],train")
    report, *_ = check(tmp_path / "splits.csv", tmp_path / "images")
    sizes = {(size["width"], size["height"]): size["images"] for size in report["sizes"]}
    assert sizes == {(5, 9): 1, (8, 6): 1, (9, 5): 1}
    assert report["formats"] == {"PNG L": 1, "PNG RGBA": 1, "JPEG RGB": 1}
    assert "(sides from 5 to 9 pixels)" in to_text(report)


class FragileExecutor:
    """Stands in for a pool whose process dies of some files."""

    def __init__(self, workers: int, **_: Any) -> None:
        self.workers = workers

    def map(self, _decode: Any, paths: Sequence[Path]) -> Iterator[DecodedImage]:
        for index, path in enumerate(paths):
            # With several processes the results of the neighbors are lost as well.
            if any("deadly" in near.name for near in paths[index : index + self.workers]):
                raise BrokenProcessPool
            yield DecodedImage(None, (1, 1), path.name, b"")

    def shutdown(self, cancel_futures: bool) -> None:
        assert cancel_futures


def test_a_file_that_kills_its_process_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_images, "ProcessPoolExecutor", FragileExecutor)
    names = [f"{number}.png" for number in range(40)]
    names[3] = names[29] = names[30] = "deadly.png"
    decoded = list(decode_all([Path(name) for name in names], workers=2))
    assert len(decoded) == len(names)
    for name, image in zip(names, decoded, strict=True):
        if name == "deadly.png":
            assert image.problem == "decoding it kills the process"
        else:
            assert image.format == name


def test_batches_of_files_keep_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_images, "_BATCH", 2)
    for number in range(5):
        _image(tmp_path / f"{number}.png", number, size=(number + 1, 3))
    decoded = decode_all([tmp_path / f"{number}.png" for number in range(5)], workers=2)
    assert [image.size for image in decoded] == [(number + 1, 3) for number in range(5)]


def test_the_nearest_name_is_difflibs() -> None:
    rng = random.Random(0)
    names = ["".join(rng.choices("abcdef", k=rng.randrange(5, 9))) for _ in range(60)]
    known, hits = Names(names), 0
    for name in names:
        slip = rng.randrange(1, len(name))
        wrong = name[:slip] + rng.choice(string.ascii_lowercase) + name[slip + 1 :]
        same_start = [other for other in names if other[0] == wrong[0]]
        expected = difflib.get_close_matches(wrong, same_start, n=1, cutoff=SIMILARITY)
        assert known.nearest(wrong) == (expected[0] if expected else None)
        hits += bool(expected)
    assert hits > 20


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"Abies": 40, "Abeis": 1}, {"Abeis": "Abies"}),
        ({"Abies": 4, "Abeis": 1}, {"Abeis": "Abies"}),
        ({"Abies": 3, "Abeis": 1}, {}),  # neither is frequent
        ({"Abies": 40, "Abeis": 4}, {}),  # four images are no slip
        ({"Abies": 40, "abies": 30}, {"abies": "Abies"}),  # case is, however often
        ({"sea star": 9, "Sea_star": 9}, {"Sea_star": "sea star"}),
        ({"Hêtre": 9, "Hetre": 2}, {"Hetre": "Hêtre"}),
        ({"type 1": 90, "type 2": 1}, {}),
        ({"10234": 90, "10235": 1, "1.0": 9, "10": 1}, {}),
        ({"elm": 90, "elk": 1}, {}),
        ({"Pinus": 90, "Prunus": 1}, {}),
        (
            {"Pinus": 90, "Quercus": 80, "Quecus": 2, "Pinu": 3},
            {"Quecus": "Quercus", "Pinu": "Pinus"},
        ),
        ({}, {}),
    ],
)
def test_suspects(counts: dict[str, int], expected: dict[str, str]) -> None:
    found = suspects(counts)
    assert {suspect.name: suspect.nearest for suspect in found} == expected
    for suspect in found:
        assert suspect.images == counts[suspect.name]
        assert suspect.nearest_images == counts[suspect.nearest]


def _samples(rng: random.Random, names: Sequence[str], number: int) -> list[Sample]:
    splits = ("train", "train", "val")
    return [
        Sample(f"{n}.png", tuple(rng.sample(names, rng.randrange(3))), splits[n % 3], n + 2)
        for n in range(number)
    ]


def test_the_cooccurrence_is_that_of_a_loop() -> None:
    names = ["a", "b", "c", "d"]
    samples = _samples(random.Random(0), names, 50)
    together = cooccurrence(samples, names[:3])
    for row, first in enumerate(names[:3]):
        for column, second in enumerate(names[:3]):
            expected = sum({first, second} <= set(sample.labels) for sample in samples)
            assert together[row, column] == expected


@pytest.mark.parametrize("number", [1, 15, 99, 400])
def test_the_chart_names_the_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    names = ["a name that is much too long for its row"]
    names += [f"class {n} $x_{{{n}$ 木" for n in range(1, number)]  # no formula that can be parsed
    samples = [Sample(f"{n}.png", (name,), "train", n) for n, name in enumerate(names)]
    samples += _samples(random.Random(0), names, 200) if number > 1 else []
    figures: list[Figure] = []

    def write(figure: Figure, path: Path) -> None:
        figures.append(figure)
        write_png(figure, path)

    monkeypatch.setattr(chart, "write_png", write)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_classes(tmp_path / "classes.png", samples)
    bars, matrix = figures[0].axes[:2]
    counts = ClassCounts(samples)
    shown = counts.by_frequency()
    shown = shown if number <= 100 else [*shown[:50], *shown[-50:]]
    labels = [label.get_text() for label in bars.get_yticklabels()]
    assert labels == [name.replace(" long for its row", "…") for name in shown]
    some = "400 classes: the 50 most frequent and the 50 rarest"
    assert (some in bars.get_title()) == (number == 400)
    # The bars are as long as the classes are frequent.
    for container, split in zip(bars.containers, ("train", "val"), strict=False):
        widths = [bar.get_width() for bar in container]
        assert widths == [counts.by_split[split][name] for name in shown]
    assert len(matrix.get_xticklabels()) == min(number, 40)
    with Image.open(tmp_path / "classes.png") as image:
        assert image.width == 1500
        assert image.height < 3000


def test_the_lines_for_a_run_are_the_notes_of_the_check() -> None:
    labels = [("Abies", "train"), ("Abies", "val"), ("Tilia", "train"), ("Tilia", "val")] * 6
    labels += [("Abeis", "train"), *((f"late {n}", "val") for n in range(7))]
    samples = tuple(Sample(f"{n}", (name,), split, n) for n, (name, split) in enumerate(labels))
    absent, unseen, suspect, advice = check_for_training(SplitTable(Path("s.csv"), samples, ()))
    assert absent.startswith(
        "Note: No training image shows 'late 0': the model cannot learn it. No"
    )
    assert absent.endswith("And 4 more of this kind.")
    assert unseen == "Note: No validation image shows 'Abeis': its AP counts as 0."
    assert "'Abeis' (1 image) may be a misspelling of 'Abies' (12 images)" in suspect
    assert advice == "More by: python -m helper_functions.check_data"
    assert check_for_training(SplitTable(Path("s.csv"), samples[:24], ())) == []


def test_training_prints_the_line(tiny_set: Path, run_here: Script, tmp_path: Path) -> None:
    text = (tiny_set / "splits.csv").read_text()
    changed = text.replace("'green'", "'grene'", 1)
    (tmp_path / "splits.csv").write_text(changed)
    flags = ("--img_dir", tiny_set / "images", "--csv_path", tmp_path / "splits.csv")
    done = run_here("train.py", *flags, *SMALL, "--epochs", 1, "--output-path", tmp_path / "out")
    assert done.status == 0, done.errors
    notes = [line for line in done.printed.splitlines() if line.startswith("Note: ")]
    assert len(notes) == 2
    assert "No validation image shows 'grene'" in notes[0]
    assert "'grene' (1 image) may be a misspelling of 'green'" in notes[1]


def test_files_that_no_row_names_and_no_run_reads_are_noted(tmp_path: Path) -> None:
    for name in ("a.heic", "sub/b.psd"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).touch()
    (note,) = _found(_set(tmp_path, *GOOD)["notes"])["left-out-files"]
    assert note.startswith("2 files with endings that cannot be read (.heic, .psd) were left out;")


def test_names_that_look_the_same_are_shown_with_what_differs(tmp_path: Path) -> None:
    rows = [f"{n}.png,['caf\xe9'],{split}" for n, split in enumerate(("train", "val"))]
    report = _set(tmp_path, *rows, "2.png,['cafe\u0301'],train")
    (note,) = _found(report["notes"])["doubtful-label"]
    assert r"'cafe\u0301' (1 image) may be a misspelling of 'caf\xe9' (2 images)" in note
    classes = tmp_path / "classes.txt"
    classes.write_text("caf\xe9\n", encoding="utf-8")
    faults = check(tmp_path / "splits.csv", tmp_path / "images", classes)[0]["faults"]
    (fault,) = _found(faults)["unknown-label"]
    assert fault.startswith(r"The class 'cafe\u0301' (1 image) is not in")
    assert fault.endswith(r"Did you mean 'caf\xe9'?")


def test_files_in_other_spellings_are_read_and_those_of_one_image_found(tmp_path: Path) -> None:
    _image(tmp_path / "images" / "sub" / "e\u0301.png", 7)
    _image(tmp_path / "images" / "v.png", 8)
    rows = ("sub\\\xe9.png,['x'],train", "v.png,['x'],val", "sub/\xe9.png,['x'],train")
    report = _set(tmp_path, *rows, images=False)
    assert report["usable"] is True
    (note,) = _found(report["notes"])["row-given-twice"]
    assert note.startswith(
        "Line 4 repeats line 2: 'sub/\xe9.png', there spelt 'sub\\\\\xe9.png', c"
    )
