"""Images of many bands and of more than 8 bits, written by tifffile."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from conftest import SMALL, Script, assert_refused, data_flags
from PIL import Image, UnidentifiedImageError

from helper_functions.check_data.images import decode, decode_all
from helper_functions.checkpoints.checkpoint import read_checkpoint
from helper_functions.data.bands import ImageFormat, parse_bands
from helper_functions.data.cache import ImageCache
from helper_functions.data.flags import make_image_format
from helper_functions.data.images import DEFAULT, ImageError, image_problem, read_image
from helper_functions.data.transforms import Resize
from helper_functions.runtime.errors import UserError

RNG = np.random.default_rng(7)
RGB = ImageFormat("rgb")


def eight_bits(*shape: int) -> Any:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def pixels(path: Path, image_format: ImageFormat = DEFAULT) -> Any:
    assert image_problem(path, image_format) is None
    return np.asarray(read_image(path, image_format))


def refusal(path: Path, image_format: ImageFormat = DEFAULT) -> str:
    with pytest.raises(ImageError) as caught:
        read_image(path, image_format)
    return caught.value.reason


def write(path: Path, values: Any, **options: Any) -> None:
    """One image, (h, w, bands), in raw values unless the options say otherwise."""
    contiguous = {"planarconfig": "contig"} if values.shape[2] > 1 else {}
    options = {"photometric": "minisblack", **contiguous, **options}
    tifffile.imwrite(path, values, **options)


FORMS: dict[str, dict[str, Any]] = {
    "gray": {"photometric": "minisblack"},  # Pillow does not know it
    "transparency": {"photometric": "rgb", "extrasamples": ["unassalpha"]},
    "associated": {"photometric": "rgb", "extrasamples": ["assocalpha"]},
    "unspecified": {"photometric": "rgb", "extrasamples": ["unspecified"]},
    "inks": {"photometric": "separated"},
    "lzw": {"photometric": "minisblack", "compression": "lzw", "predictor": True},
    "deflate": {"photometric": "minisblack", "compression": "zlib"},
    "tiles": {"photometric": "minisblack", "tile": (16, 16)},
    "big": {"photometric": "minisblack", "bigtiff": True},
    "big-endian": {"photometric": "minisblack", "byteorder": ">"},
}


@pytest.mark.parametrize("form", FORMS)
def test_four_bands_by_preset_and_number(tmp_path: Path, form: str) -> None:
    values = eight_bits(20, 30, 4)
    path = tmp_path / "tile.tif"
    options = dict(FORMS[form])
    big = options.pop("bigtiff", False)
    order = options.pop("byteorder", "<")
    with tifffile.TiffWriter(path, bigtiff=big, byteorder=order) as writer:
        writer.write(values, planarconfig="contig", **options)
    np.testing.assert_array_equal(pixels(path, RGB), values[..., [3, 1, 2]])
    np.testing.assert_array_equal(pixels(path, ImageFormat((1, 4, 4))), values[..., [0, 3, 3]])
    if form == "inks":  # as the released code reads it: four colors of print
        expected = np.asarray(Image.open(path).convert("RGB"))
    elif form == "associated":
        return  # Pillow divides by the transparency
    else:
        expected = values[..., :3]
    np.testing.assert_array_equal(pixels(path), expected)


def test_pillow_alone_would_fail(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", eight_bits(4, 4, 4))
    with pytest.raises(UnidentifiedImageError):
        Image.open(tmp_path / "a.tif")


def test_bands_one_after_the_other(tmp_path: Path) -> None:
    values = eight_bits(4, 20, 30)
    path = tmp_path / "a.tif"
    write(path, values, planarconfig="separate")
    np.testing.assert_array_equal(pixels(path, RGB), np.moveaxis(values[[3, 1, 2]], 0, -1))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 12])
def test_other_numbers_of_bands(tmp_path: Path, count: int) -> None:
    values = RNG.integers(0, 65536, (6, 7, count), dtype=np.uint16)
    path = tmp_path / "a.tif"
    write(path, values)
    expected = np.rint(values / 257).astype(np.uint8)
    taken = [0, 0, 0] if count < 3 else [0, 1, 2]
    np.testing.assert_array_equal(pixels(path), expected[..., taken])
    if count > 4:
        assert refusal(path, RGB) == (
            f"it has {count} bands, and --bands rgb knows images of up to 4; give the numbers of "
            f"three bands"
        )
    else:
        np.testing.assert_array_equal(pixels(path, RGB), expected[..., taken])
    last = ImageFormat((count, 1, count))
    if count > 1:
        np.testing.assert_array_equal(pixels(path, last), expected[..., [count - 1, 0, count - 1]])
    assert f"so there is no {count + 3}" in refusal(path, ImageFormat((1, 1, count + 3)))


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 3, 4])
def test_value_range(tmp_path: Path, dtype: type, count: int) -> None:
    values: Any = RNG.integers(0, 10000, (6, 7, count)).astype(dtype)
    if np.issubdtype(dtype, np.signedinteger):
        values -= 500
    path = tmp_path / "a.tif"
    write(path, values)
    low, high = 200, 4200
    share = (values.astype(np.float64)[..., [0] * 3 if count == 1 else [0, 1, 2]] - low) / 4000
    expected = np.rint(np.clip(share, 0, 1) * 255)
    np.testing.assert_array_equal(pixels(path, ImageFormat(value_range=(low, high))), expected)


def twelve_bit_tiff(values: Any) -> bytes:
    """A TIFF of 12-bit samples (h, w, 3), packed as its specification says."""
    height, width, bands = values.shape
    bits = (values[..., None] >> np.arange(11, -1, -1)) & 1
    strip = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1).tobytes()
    start = 8 + 2 + 9 * 12 + 4
    depths = start + len(strip)
    fields = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, depths), (259, 3, 1, 1)]
    fields += [(262, 3, 1, 2), (273, 4, 1, start), (277, 3, 1, bands), (278, 3, 1, height)]
    fields += [(279, 4, 1, len(strip))]
    entries = b"".join(struct.pack("<HHII", *field) for field in fields)
    head = b"II*\0" + struct.pack("<IH", 8, len(fields)) + entries + bytes(4)
    return head + strip + struct.pack("<3H", 12, 12, 12)


def test_the_range_of_twelve_bits(tmp_path: Path) -> None:
    values = RNG.integers(0, 4096, (8, 8, 3), dtype=np.uint16)
    path = tmp_path / "a.tif"
    path.write_bytes(twelve_bit_tiff(values))
    np.testing.assert_array_equal(pixels(path), np.rint(values / 4095 * 255))


def test_floats_of_three_bands(tmp_path: Path) -> None:
    values = RNG.random((5, 6, 3)).astype(np.float32)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, values, photometric="rgb")
    np.testing.assert_allclose(pixels(path), values * 255, atol=0.5001)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.full((2, 2, 4), np.nan, np.float32), "its floating-point values are not all finite"),
        (np.full((2, 2, 4), -1, np.int16), "by --value-range"),
        (
            np.full((2, 2, 4), 300, np.float32),
            "outside 0 to 1; give the values of black and white by --value-range, such as 0 255",
        ),
        (np.full((2, 2, 4), 1j, np.complex64), "its values are of the type complex64"),
    ],
)
def test_values_that_are_no_image(tmp_path: Path, values: Any, reason: str) -> None:
    path = tmp_path / "a.tif"
    write(path, values)
    assert reason in refusal(path)


def test_a_volume_is_no_image(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    values = eight_bits(16, 16, 16)
    tifffile.imwrite(path, values, photometric="minisblack", volumetric=True, tile=(16, 16, 16))
    assert refusal(path, ImageFormat((1, 2, 3))).startswith("it is a volume")


def test_white_is_zero(tmp_path: Path) -> None:
    values = RNG.integers(0, 65536, (5, 6), dtype=np.uint16)
    write(tmp_path / "a.tif", values[..., None][..., [0, 0]], photometric="miniswhite")
    expected = 255 - np.rint(values / 257)
    np.testing.assert_array_equal(pixels(tmp_path / "a.tif")[..., 0], expected)


def test_orientation_of_four_bands(tmp_path: Path) -> None:
    values = eight_bits(5, 8, 4)
    path = tmp_path / "a.tif"
    tags = [(274, "H", 1, 6, True)]
    write(path, values, extratags=tags)
    expected = np.rot90(values, -1)[..., [3, 1, 2]]
    np.testing.assert_array_equal(pixels(path, RGB), expected)


def test_every_truncation_is_an_error(tmp_path: Path) -> None:
    intact = tmp_path / "intact.tif"
    for compression in (None, "zlib", "lzw"):
        values = eight_bits(32, 32, 4)
        write(intact, values, compression=compression, rowsperstrip=8)
        content = intact.read_bytes()
        path = tmp_path / "cut.tif"
        for length in range(1, len(content) - 1, 97):
            path.write_bytes(content[:length])
            assert refusal(path), length


def test_damaged_bytes_are_an_error_or_an_image(tmp_path: Path) -> None:
    intact = tmp_path / "intact.tif"
    write(intact, eight_bits(16, 16, 4), compression="zlib")
    content = bytearray(intact.read_bytes())
    path = tmp_path / "a.tif"
    refused = 0
    for position in range(4, len(content), 7):
        damaged = bytearray(content)
        damaged[position] ^= 0x5A
        path.write_bytes(damaged)
        try:
            read_image(path, RGB)
        except ImageError:
            refused += 1
    assert refused > 20


def test_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.tif"
    write(path, eight_bits(8, 8, 5))
    monkeypatch.setattr("helper_functions.data.bands.MAX_PIXELS", 63)
    problem = image_problem(path)
    assert problem is not None
    assert problem.reason.startswith("it has 8 x 8 pixels in 5 bands, which count as 8e-05 mega")
    assert refusal(path) == problem.reason
    monkeypatch.setattr("helper_functions.data.bands.MAX_PIXELS", 79)
    assert "--max-megapixels" in refusal(path)  # 5 bands count as more than 4
    monkeypatch.setattr("helper_functions.data.bands.MAX_PIXELS", 80)
    assert pixels(path).shape == (8, 8, 3)


def test_numbers_permute_ordinary_images(tmp_path: Path) -> None:
    values = eight_bits(4, 5, 3)
    Image.fromarray(values).save(tmp_path / "a.png")
    swapped = pixels(tmp_path / "a.png", ImageFormat((3, 2, 1)))
    np.testing.assert_array_equal(swapped, values[..., ::-1])
    assert pixels(tmp_path / "a.png", RGB).tolist() == values.tolist()
    assert refusal(tmp_path / "a.png", ImageFormat((4, 2, 3))) == "it has 3 bands, so there is no 4"


@pytest.mark.parametrize("words", [["nir"], ["1", "2"], ["0", "1", "2"], ["1", "2", "x"]])
def test_bands_that_are_none(words: list[str]) -> None:
    with pytest.raises(ValueError, match="--bands takes 'paper'"):
        parse_bands(words)


@pytest.mark.parametrize("span", [(1, 1), (2, 1), (0, float("inf")), (float("nan"), 1)])
def test_value_ranges_that_are_none(span: tuple[float, float]) -> None:
    with pytest.raises(UserError, match="--value-range is"):
        make_image_format(None, span)


def test_cache_and_check_know_the_format(tmp_path: Path) -> None:
    values = eight_bits(8, 8, 4)
    path = tmp_path / "a.tif"
    write(path, values)
    cache = ImageCache(tmp_path / "cache")
    for _ in range(2):
        for image_format, order in ((ImageFormat(), [0, 1, 2]), (RGB, [3, 1, 2])):
            image = np.asarray(cache.read(path, Resize(8), image_format)[0])
            np.testing.assert_array_equal(image, values[..., order])
    assert decode(path, ImageFormat((9, 9, 9))).problem == "it has 4 bands, so there is no 9"
    assert decode(path, RGB).digest != decode(path).digest


def test_the_checkpoint_remembers_the_bands(tmp_path: Path, run_here: Script) -> None:
    images = tmp_path / "images"
    images.mkdir()
    rows = ["filename,label,split"]
    for number in range(8):
        tile = RNG.integers(0, 4000, (40, 40, 5), dtype=np.uint16)
        write(images / f"{number}.tif", tile)
        rows.append(f"{number}.tif,\"['a{number % 2}']\",{'val' if number > 4 else 'train'}")
    (tmp_path / "splits.csv").write_text("\n".join(rows) + "\n")
    data = data_flags(tmp_path)
    flags = ("--bands", 5, 3, 1, "--value-range", 0, 4000)
    run = tmp_path / "run"

    limit = ("--max-megapixels", 0.002)
    done = run_here("train.py", *data, *flags, *limit, *SMALL, "--epochs", 1, "--output-path", run)
    assert done.status == 0, done.errors
    assert "max_megapixels" not in read_checkpoint(run / "last.ckpt")["info"]
    scores = []
    for other_flags in ((), flags, ("--bands", "paper")):
        results = ("--ckpt-path", run / "model-highest.ckpt", "--output", tmp_path / "val")
        done = run_here("val.py", *data, *results, *other_flags, "-j", 0)
        assert done.status == 0, done.errors
        scores.append((tmp_path / "val" / "predictions.csv").read_text())
    assert scores[0] == scores[1] != scores[2]

    low = ("--max-megapixels", 0.001)
    sentence = "it has 40 x 40 pixels in 5 bands, which count as 0.002 megapixels"
    results = ("--ckpt-path", run / "model-highest.ckpt", "--output", tmp_path / "none")
    assert_refused(run_here("val.py", *data, *results, *low, "-j", 0), sentence, tmp_path / "none")
    (checked,) = decode_all([images / "0.tif"], 1, make_image_format(None, None, 0.001))  # spawned
    assert checked.problem is not None
    assert checked.problem.startswith(sentence)

    other = tmp_path / "other"
    done = run_here("train.py", *data, *low, *SMALL, "--output-path", other)
    assert_refused(done, sentence, other)
    done = run_here("train.py", *data, "--bands", 9, 1, 2, *SMALL, "--output-path", other)
    assert_refused(done, "it has 5 bands, so there is no 9", other)
    done = run_here("train.py", *data, "--bands", "infrared", *SMALL, "--output-path", other)
    assert_refused(done, "--bands takes", other)
