"""Every layout: manifests, repetition, dry runs, damaged files, flags, the README."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Command
from raw_archives import geolifeclef, onehot
from raw_archives.conversions import ARCHIVES, TABLES, prepare, refused

from helper_functions.check_data.__main__ import make_parser as check_data_parser
from helper_functions.data.splits import read_split_table
from helper_functions.parsers import parse_train
from helper_functions.prepare.__main__ import main, make_parser
from helper_functions.runtime.errors import UserError


@pytest.mark.parametrize("layout", ARCHIVES)
def test_the_manifest_tells_what_was_read_and_decided(layout: str, raw: Path) -> None:
    ARCHIVES[layout].write(raw)
    rows, manifest = prepare(layout, raw)
    table = (raw.parent / "out" / "splits.csv").read_bytes()
    assert manifest["layout"] == layout
    assert manifest["split_csv"] == {
        "bytes": len(table),
        "sha256": hashlib.sha256(table).hexdigest(),
    }
    assert manifest["sources"]
    for source in manifest["sources"]:
        if "files" in source:
            paths = sorted(raw.glob(source["file"]))
            assert source["files"] == len(paths)
            assert source["bytes"] == sum(path.stat().st_size for path in paths)
        else:
            content = (raw / source["file"]).read_bytes()
            assert source["bytes"] == len(content)
            assert source["sha256"] == hashlib.sha256(content).hexdigest()
    splits = Counter(split for _, split in rows.values())
    assert manifest["images"] == {name: splits[name] for name in ("train", "val", "test")}
    counts = Counter((name, split) for labels, split in rows.values() for name in labels)
    assert manifest["classes"] == {
        name: {split: counts[name, split] for split in ("train", "val", "test")}
        for name in {name for name, _ in counts}
    }
    assert str(raw) not in json.dumps(manifest)
    cut = any(split is None for _, split in ARCHIVES[layout].write(raw.parent / "again").values())
    assert manifest["options"].get("val_fraction") == (0.1 if cut else None)
    ours = layout not in ("coco", "onehot", "labels")
    assert any("this is a re-creation" in note for note in manifest["notes"]) == ours


@pytest.mark.parametrize("layout", ARCHIVES)
def test_repeated_commands_give_equal_bytes_and_others_need_overwrite(
    layout: str, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ARCHIVES[layout].write(raw)
    flag = {"treesatai": ("--min-area", "0"), "shiprsimagenet": ("--level", "1")}.get(
        layout, ("--seed", "1", "--val-fraction", "0.4")
    )
    files = [raw.parent / "out" / name for name in ("splits.csv", "splits.manifest.json")]
    if layout == "coco":
        (raw / "annotations" / "instances_val2017.json").unlink()

    prepare(layout, raw)
    first = [(path.read_bytes(), path.stat().st_mtime_ns) for path in files]
    capsys.readouterr()
    prepare(layout, raw)
    assert "are up to date" in capsys.readouterr().out
    assert [(path.read_bytes(), path.stat().st_mtime_ns) for path in files] == first
    with pytest.raises(UserError, match=r"is there already and differs .* --overwrite"):
        prepare(layout, raw, *flag)
    assert [path.read_bytes() for path in files] == [content for content, _ in first]
    prepare(layout, raw, *flag, "--overwrite")
    assert all(
        path.read_bytes() != content for path, (content, _) in zip(files, first, strict=True)
    )
    prepare(layout, raw, out="elsewhere/splits.csv")
    assert [(raw.parent / "elsewhere" / path.name).read_bytes() for path in files] == [
        content for content, _ in first
    ]
    # Killed between the two files, the command completes them.
    files[0].unlink()
    prepare(layout, raw, *flag)
    assert {path.name for path in files[0].parent.iterdir()} == {path.name for path in files}


@pytest.mark.parametrize("layout", ARCHIVES)
def test_a_dry_run_counts_and_writes_nothing(
    layout: str, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ARCHIVES[layout].write(raw)
    before = sorted(raw.parent.rglob("*"))
    main([layout, "--raw-dir", str(raw), "--out", str(raw.parent / "new/s.csv"), "--dry-run"])
    assert sorted(raw.parent.rglob("*")) == before
    printed = capsys.readouterr().out
    assert "Nothing is written (--dry-run)" in printed
    rows, _ = prepare(layout, raw)
    assert f"{len(rows)} images (" in printed


def _link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


WHOLE_FILE: dict[str, tuple[Callable[[Path], object], dict[str, str]]] = {
    "empty": (lambda path: path.write_bytes(b""), {"csv": "is empty", "json": "read as JSON"}),
    "not UTF-8": (
        lambda path: path.write_bytes(path.read_bytes() + "Bäume".encode("latin-1")),
        {"csv": "is not UTF-8 text", "json": "is not UTF-8 text"},
    ),
    "UTF-16": (
        lambda path: path.write_bytes(path.read_text().encode("utf-16")),
        {"csv": "is not UTF-8 text", "json": "is not UTF-8 text"},
    ),
    "a loop of links": (_link_to_itself, {"csv": "", "json": ""}),
    "missing": (Path.unlink, {"csv": "", "json": ""}),
    "cut off": (
        lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        {"json": "read as JSON"},
    ),
    "semicolons": (
        lambda path: path.write_text(path.read_text().replace(",", ";")),
        {"csv": "Use commas between the columns."},
    ),
    "a quote left open": (
        lambda path: path.write_text(path.read_text() + '"x,1\n'),
        {"csv": "is not a valid CSV row"},
    ),
    "100,000 columns": (
        lambda path: path.write_text(",".join(f"column{n}" for n in range(100_000)) + "\n"),
        {"csv": "has no column"},
    ),
    "a row too long": (
        lambda path: path.write_text(path.read_text() + "1,2,3,4,5,6,7,8,9,10,11\n"),
        {"csv": "columns, but the header has"},
    ),
    "a header only": (
        lambda path: path.write_text(path.read_text().splitlines()[0] + "\n"),
        {"csv": "no row"},
    ),
    "a very long cell": (
        lambda path: path.write_text(path.read_text() + "x" * 200_000),
        {"csv": "is not a valid CSV row"},
    ),
    "another JSON": (lambda path: path.write_text("[1, 2]"), {"json": "is no "}),
    "deep JSON": (lambda path: path.write_text("[" * 100_000), {"json": "read as JSON"}),
    "not a number": (
        lambda path: path.write_text('{"images": NaN}'),
        {"json": "NaN is not a number"},
    ),
    "a key twice": (
        lambda path: path.write_text('{"images": [], "images": []}'),
        {"json": "'images' comes twice"},
    ),
}


def _whole_file_cases() -> Iterator[Any]:
    for layout, table in TABLES.items():
        for name, (damage, sentences) in WHOLE_FILE.items():
            sentence = sentences.get(table.rpartition(".")[2])
            if sentence is None:
                continue
            if sentence.startswith("Use commas") and layout in ("onehot", "labels"):
                continue  # any delimiter will do
            if sentence == "has no column" and layout in ("onehot", "labels"):
                sentence = "holds a header but no row"  # by which the columns are guessed
            if damage in (Path.unlink, _link_to_itself):
                if layout == "shiprsimagenet":
                    continue  # the names then come from the file of the split val
                listed = damage is _link_to_itself and layout in ("coco", "onehot", "labels")
                sentence = "cannot be read: Too many levels" if listed else "holds no"
            yield pytest.param(layout, table, damage, sentence, id=f"{layout}: {name}")


@pytest.mark.parametrize(("layout", "table", "damage", "sentence"), list(_whole_file_cases()))
def test_damaged_files_get_one_sentence(
    layout: str, table: str, damage: Callable[[Path], object], sentence: str, raw: Path
) -> None:
    ARCHIVES[layout].write(raw)
    damage(raw / table)
    refused(layout, raw, sentence)


@pytest.mark.parametrize("layout", TABLES)
def test_byte_order_marks_and_windows_line_ends_change_nothing(layout: str, raw: Path) -> None:
    ARCHIVES[layout].write(raw)
    expected, _ = prepare(layout, raw)
    for path in raw.rglob("*"):
        if path.suffix in (".csv", ".json", ".lst", ".txt"):
            path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert prepare(layout, raw, "--overwrite")[0] == expected


_FILES = {
    "treesatai": (TABLES["treesatai"], "train_filenames.lst"),
    "geolifeclef": (TABLES["geolifeclef"],),
    "fathomnet": (
        TABLES["fathomnet"],
        "multilabel_classification/category_key.csv",
        "object_detection/train.json",
    ),
    "shiprsimagenet": (
        "VOC_Format/Annotations/000001.xml",
        TABLES["shiprsimagenet"],
        "VOC_Format/ImageSets/val.txt",
    ),
    "coco": (TABLES["coco"],),
    "onehot": ("labels.csv",),
    "labels": ("labels.csv",),
}
_PIECES = (
    *(b"", b"\x00", b"\xff", b"\n", b"\r", b'"', b",", b";", b"[", b"]", b"{", b"}", b"<", b"../"),
    *(b"null", b"-1", b"1e999", b"9" * 30, b"true", b"\\ud800", b"\xef\xbb\xbf", b"\xc3\xa4"),
)


@pytest.mark.parametrize("rounds", [15, pytest.param(400, id="thorough", marks=pytest.mark.slow)])
@pytest.mark.parametrize("layout", ARCHIVES)
def test_damage_anywhere_is_refused_or_read(layout: str, rounds: int, raw: Path) -> None:
    ARCHIVES[layout].write(raw)
    out = raw.parent / "out"
    flags = [layout, "--raw-dir", str(raw), "--out", str(out / "splits.csv"), "--keep-missing"]
    draw = random.Random(layout)
    ended: Counter[bool] = Counter()
    for _ in range(rounds):
        for name in _FILES[layout]:
            path = raw / name
            content = path.read_bytes()
            start = draw.randrange(len(content))
            end = min(start + draw.choice((0, 1, 1, 5)), len(content))
            path.write_bytes(content[:start] + draw.choice(_PIECES) + content[end:])
            try:
                main(flags)
            except UserError as error:
                assert "\n" not in str(error)
                assert not out.exists()
                ended[False] += 1
            else:
                assert read_split_table(out / "splits.csv").samples
                shutil.rmtree(out)
                ended[True] += 1
            path.write_bytes(content)
    assert ended[False] > 0


@pytest.mark.parametrize("layout", ARCHIVES)
def test_no_image_at_all_is_refused(layout: str, raw: Path) -> None:
    ARCHIVES[layout].write(raw)
    for path in raw.rglob("*"):
        if path.suffix in (".tif", ".jpeg", ".png", ".jpg", ".bmp"):
            path.unlink()
    refused(layout, raw, "--keep-missing")
    assert prepare(layout, raw, "--keep-missing")[0]


@pytest.mark.parametrize("layout", ARCHIVES)
def test_an_empty_folder_is_refused(layout: str, raw: Path) -> None:
    raw.mkdir()
    refused(layout, raw, f"{raw} holds no")


def test_outputs_that_cannot_be_are_refused(raw: Path) -> None:
    onehot.write(raw)
    flags = ["onehot", "--raw-dir", str(raw), "--out"]
    (raw.parent / "folder.csv").mkdir()
    (raw.parent / "file").write_text("")
    (raw.parent / "loop.csv").symlink_to("loop.csv")
    for out, sentence in (
        (raw.parent / "folder.csv", "is a folder"),
        (raw.parent / "splits.txt", r"should end in \.csv"),
        (raw.parent / "file" / "splits.csv", "cannot be"),
        (raw.parent / "loop.csv", "cannot be read: Too many levels of symbolic links"),
    ):
        with pytest.raises(UserError, match=sentence):
            main([*flags, str(out)])
    with pytest.raises(UserError, match="is a file of the raw data set"):
        main([*flags, str(raw / "labels.csv"), "--csv", "labels.csv", "--overwrite"])
    assert (raw / "labels.csv").read_text().startswith("filename,crab")


@pytest.mark.parametrize("write", [1, 2])
def test_a_full_disk_leaves_whole_files(
    write: int, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onehot.write(raw)
    prepare("onehot", raw)
    folder = raw.parent / "out"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    wanted = raw.parent / "wanted"
    prepare("onehot", raw, "--seed", 1, out="wanted/splits.csv")
    after = {path.name: path.read_bytes() for path in wanted.iterdir()}
    calls = iter(range(1, 9))

    def sync(_file: int) -> None:
        if next(calls) == write:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", sync)
    with pytest.raises(OSError, match="No space left"):
        prepare("onehot", raw, "--seed", 1, "--overwrite")
    there = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(there) == set(before)
    assert there["splits.csv"] == before["splits.csv"]
    manifest = before if write == 1 else after
    assert there["splits.manifest.json"] == manifest["splits.manifest.json"]
    monkeypatch.undo()
    prepare("onehot", raw, "--seed", 1, "--overwrite")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == after


def test_the_command_ends_with_status_2_and_one_line(command: Command, raw: Path) -> None:
    geolifeclef.write(raw)
    table = raw / TABLES["geolifeclef"]
    table.write_text("")
    out = raw.parent / "out" / "splits.csv"
    flags = ("geolifeclef", "--raw-dir", raw, "--out", out)
    done = command("-m", "helper_functions.prepare", *flags)
    assert done.returncode == 2
    assert done.stderr == f"prepare: error: {table} is empty; it should be a CSV with a header.\n"
    assert not out.parent.exists()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("geolifeclef", "--spatial-block", "0"), "--spatial-block: 0 is out of range"),
        (("treesatai", "--min-area", "7"), "--min-area: 7 is out of range"),
        (("treesatai", "--bands", "4,2,3"), "--bands: invalid choice"),
        (("shiprsimagenet", "--level", "4"), "--level: invalid choice"),
        (("fathomnet", "--jobs", "1000"), "--jobs: 1000 is out of range"),
        (("onehot", "--val-fraction", "1"), "--val-fraction: 1 is out of range"),
        (("imagenet",), "invalid choice: 'imagenet'"),
    ],
)
def test_wrong_flags_get_one_line(
    flags: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main([*flags, "--raw-dir", "x", "--out", "x.csv"])
    assert left.value.code == 2
    errors = capsys.readouterr().err
    assert sentence in errors
    assert len(errors.splitlines()) == 1


def test_the_commands_of_the_readme_exist() -> None:
    text = (ROOT / "helper_functions" / "prepare" / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    commands = [shlex.split(line) for b in blocks for line in b.replace("\\\n", "").splitlines()]
    prepared: dict[str, Path] = {}
    for words in commands:
        if words[:3] == ["python", "-m", "helper_functions.prepare"]:
            if words[3] != "LAYOUT":
                prepared[words[3]] = make_parser().parse_args(words[3:]).out
        elif words[:2] == ["python", "train.py"]:
            _, options = parse_train(words[2:])
            assert options.csv_path == prepared[options.dataset]
        else:
            assert words[:3] == ["python", "-m", "helper_functions.check_data"]
            check_data_parser().parse_args(words[3:])
    assert set(prepared) == set(ARCHIVES)
