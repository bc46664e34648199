"""Every mode and every damage that read_image meets, written to disk and read back."""

from __future__ import annotations

import contextlib
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

from helper_functions.data.bands import ImageFormat
from helper_functions.data.flags import make_image_format
from helper_functions.data.folders import IMAGE_EXTENSIONS
from helper_functions.data.images import (
    ImageError,
    image_problem,
    read_image,
)

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def pixels_of(path: Path) -> list[list[list[int]]]:
    image = read_image(path)
    assert image.mode == "RGB"
    values: list[list[list[int]]] = np.asarray(image).tolist()
    return values


def first_row(path: Path) -> list[tuple[int, ...]]:
    return [tuple(pixel) for pixel in pixels_of(path)[0]]


def grays(*values: int) -> list[tuple[int, ...]]:
    return [(value, value, value) for value in values]


def row(mode: str, *values: float | tuple[int, ...]) -> Image.Image:
    image = Image.new(mode, (len(values), 1))
    for x, value in enumerate(values):
        image.putpixel((x, 0), value)
    return image


def refusal(path: Path) -> str:
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert caught.value.path == path
    assert str(caught.value) == f"Cannot read the image {path}: {caught.value.reason}."
    assert not caught.value.reason.endswith(".")
    return caught.value.reason


# --- modes


@pytest.mark.parametrize(
    ("name", "image", "expected"),
    [
        ("bits.png", row("1", 0, 255), grays(0, 255)),
        ("bits.tif", row("1", 255, 0), grays(255, 0)),
        ("gray.png", row("L", 0, 7, 255), grays(0, 7, 255)),
        ("gray-alpha.png", row("LA", (9, 0), (200, 255)), grays(9, 200)),
        ("rgb.png", row("RGB", (1, 2, 3), RED), [(1, 2, 3), RED]),
        ("rgb.bmp", row("RGB", (1, 2, 3), RED), [(1, 2, 3), RED]),
        ("rgb.ppm", row("RGB", (1, 2, 3), RED), [(1, 2, 3), RED]),
        ("rgba.png", row("RGBA", (1, 2, 3, 0), (4, 5, 6, 99)), [(1, 2, 3), (4, 5, 6)]),
        ("rgba.tif", row("RGBA", (1, 2, 3, 0), (4, 5, 6, 255)), [(1, 2, 3), (4, 5, 6)]),
        ("cmyk.tif", row("CMYK", (0, 255, 255, 0), (0, 0, 0, 255)), [RED, (0, 0, 0)]),
        ("half.pgm", row("I", 0, 257, 65535), grays(0, 1, 255)),
    ],
)
def test_exact_modes(
    tmp_path: Path, name: str, image: Image.Image, expected: list[tuple[int, ...]]
) -> None:
    image.save(tmp_path / name)
    assert first_row(tmp_path / name) == expected


@pytest.mark.parametrize("transparency", [None, 1, bytes([255, 0, 128])])
@pytest.mark.filterwarnings("error")
def test_palette(tmp_path: Path, transparency: int | bytes | None) -> None:
    image = row("P", 2, 1, 0)
    image.putpalette([*RED, *GREEN, *BLUE])
    if transparency is None:
        image.save(tmp_path / "palette.png")
    else:
        image.save(tmp_path / "palette.png", transparency=transparency)
    with Image.open(tmp_path / "palette.png") as written:
        assert written.mode == "P"
        assert ("transparency" in written.info) == (transparency is not None)
    assert first_row(tmp_path / "palette.png") == [BLUE, GREEN, RED]
    assert "transparency" not in read_image(tmp_path / "palette.png").info


def test_ycbcr(tmp_path: Path) -> None:
    row("YCbCr", (76, 85, 255), (128, 128, 128)).save(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as written:
        assert written.mode in {"YCbCr", "RGB"}  # some Pillows convert while they open
    # 76 + 1.402 * 127 = 254; the other two bands are below 1.
    np.testing.assert_allclose(first_row(tmp_path / "a.tif"), [RED, (128,) * 3], atol=1)


def test_lab(tmp_path: Path) -> None:
    # Red of sRGB is L* 54.29, a* 80.81, b* 69.89 under D50, stored as 2.55 L*, a* + 128, b* + 128.
    row("LAB", (255, 128, 128), (0, 128, 128), (138, 209, 198)).save(tmp_path / "a.tif")
    with Image.open(tmp_path / "a.tif") as written:
        assert written.mode == "LAB"
    expected = [(255, 255, 255), (0, 0, 0), RED]
    np.testing.assert_allclose(first_row(tmp_path / "a.tif"), expected, atol=6)


def test_cmyk_jpeg(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    with Image.open(tmp_path / "a.jpg") as written:
        assert written.mode == "CMYK"
    np.testing.assert_allclose(first_row(tmp_path / "a.jpg"), [RED] * 16, atol=3)


def test_modes_that_no_pillow_writer_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"x")
    for image, expected in [
        (row("HSV", (0, 255, 255), (170, 255, 255)), [RED, BLUE]),
        (Image.new("I;16L", (1, 1), 65535), grays(255)),
        (Image.new("I;16N", (1, 1), 2570), grays(10)),
    ]:
        monkeypatch.setattr(Image, "open", lambda _file, image=image: image)
        assert first_row(path) == expected


@pytest.mark.parametrize(
    ("name", "mode"), [("a.png", "I;16"), ("a.tif", "I;16"), ("b.tif", "I;16B")]
)
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, name: str, mode: str) -> None:
    values = [0, 128, 129, 255, 257, 32768, 65406, 65407, 65535]
    image = Image.new(mode, (len(values), 1))
    for x, value in enumerate(values):
        image.putpixel((x, 0), value)
    image.save(tmp_path / name)
    with Image.open(tmp_path / name) as written:
        assert written.mode == mode
    assert first_row(tmp_path / name) == grays(*(round(value / 257) for value in values))


@pytest.mark.parametrize("values", [[0, 0.5, 1], [0.1, 0.2, 0.4], [0, 0.001]])
def test_floats_are_scaled_from_0_to_1(tmp_path: Path, values: list[float]) -> None:
    Image.fromarray(np.array([values], dtype=np.float32)).save(tmp_path / "a.tif")
    expected = grays(*(round(255 * value + 1e-6) for value in values))
    np.testing.assert_array_equal(first_row(tmp_path / "a.tif"), expected)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([-0.5, 1], "its floating-point values run from -0.5 to 1, outside 0 to 1"),
        ([0, 255], "its floating-point values run from 0 to 255, outside 0 to 1"),
        ([0, np.nan], "its floating-point values are not all finite"),
        ([0, np.inf], "its floating-point values are not all finite"),
    ],
)
def test_floats_outside_their_range(tmp_path: Path, values: list[float], reason: str) -> None:
    Image.fromarray(np.array([values], dtype=np.float32)).save(tmp_path / "a.tif")
    hint = "; give the values of black and white by --value-range, such as 0 255"
    assert refusal(tmp_path / "a.tif") == reason + (hint if "outside" in reason else "")


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.tif", "a.webp"])
def test_first_frame_of_an_animation(tmp_path: Path, name: str) -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in (RED, BLUE)]
    options: dict[str, Any] = {"lossless": True} if name.endswith("webp") else {}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    with Image.open(tmp_path / name) as written:
        assert getattr(written, "n_frames", 1) == 2
    assert first_row(tmp_path / name) == [RED] * 4


# --- orientation


def oriented(tmp_path: Path, suffix: str, orientation: int, upright: Image.Image) -> Path:
    """Store `upright` as a camera held that way would: EXIF says where row 0 and column 0 are."""
    pixels = np.asarray(upright)
    stored = {
        1: pixels,  # top, left
        2: pixels[:, ::-1],  # top, right
        3: pixels[::-1, ::-1],  # bottom, right
        4: pixels[::-1],  # bottom, left
        5: pixels.transpose(1, 0, 2),  # left, top
        6: pixels[:, ::-1].transpose(1, 0, 2),  # right, top
        7: pixels[::-1, ::-1].transpose(1, 0, 2),  # right, bottom
        8: pixels[::-1].transpose(1, 0, 2),  # left, bottom
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"{orientation}{suffix}"
    options: dict[str, Any] = {"lossless": True} if suffix == ".webp" else {}
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(tmp_path: Path, suffix: str, orientation: int) -> None:
    upright = Image.fromarray(
        np.random.default_rng(0).integers(0, 256, size=(2, 3, 3), dtype=np.uint8)
    )
    path = oriented(tmp_path, suffix, orientation, upright)
    np.testing.assert_array_equal(np.asarray(read_image(path)), np.asarray(upright))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_jpeg(tmp_path: Path, orientation: int) -> None:
    quadrants = np.array([[RED, GREEN], [BLUE, (255, 255, 255)]], dtype=np.uint8)
    upright = Image.fromarray(np.kron(quadrants, np.ones((16, 32, 1), dtype=np.uint8)))
    read = read_image(oriented(tmp_path, ".jpg", orientation, upright))
    assert read.size == (64, 32)
    corners = np.asarray(read)[np.ix_([2, 29], [2, 61])]
    np.testing.assert_allclose(corners, quadrants, atol=12)


@pytest.mark.parametrize("block", [b"Exif\0\0XM\0*\0\0\0\x08", b"Exif\0\0MM\0*\0\0"])
def test_damaged_exif_counts_as_upright(tmp_path: Path, block: bytes) -> None:
    row("RGB", RED, BLUE).save(tmp_path / "a.png", exif=block)
    with Image.open(tmp_path / "a.png") as written, pytest.raises((SyntaxError, struct.error)):
        written.getexif()
    assert first_row(tmp_path / "a.png") == [RED, BLUE]


def test_undefined_orientation_counts_as_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 9
    row("RGB", RED, BLUE).save(tmp_path / "a.png", exif=exif)
    assert first_row(tmp_path / "a.png") == [RED, BLUE]


# --- refusals


def test_missing(tmp_path: Path) -> None:
    assert refusal(tmp_path / "a.png") == "there is no such file"


def test_directory(tmp_path: Path) -> None:
    assert refusal(tmp_path) == "it is a directory"


def test_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    assert refusal(tmp_path / "a" / "b.png") == "the system refuses it (Not a directory)"


def test_empty(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    assert refusal(tmp_path / "a.png") == "it is empty (0 bytes)"


def test_not_an_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("filename,label,split")
    assert refusal(tmp_path / "a.png") == "it is not in an image format that Pillow knows"


@pytest.mark.parametrize("suffix", ["bmp", "gif", "jpg", "png", "ppm", "tif", "webp"])
def test_truncated(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, size=(40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    assert read_image(path).size == (40, 40)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    reason = refusal(path)
    assert reason.startswith("Pillow cannot decode it (")
    assert "truncated" in reason or suffix == "webp"  # Its decoder gives no reason.


def test_decoder_error_without_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_file: object) -> None:
        raise EOFError

    (tmp_path / "a.png").write_bytes(b"x")
    monkeypatch.setattr(Image, "open", fail)
    assert refusal(tmp_path / "a.png") == "Pillow cannot decode it (EOFError)"


@pytest.mark.parametrize("limit", [63, 30])
@pytest.mark.parametrize("action", ["ignore", "default", "error"])
def test_decompression_bomb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, action: str
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    monkeypatch.setattr("helper_functions.data.bands.MAX_PIXELS", 64)
    assert read_image(tmp_path / "a.png").size == (8, 8)
    monkeypatch.setattr("helper_functions.data.bands.MAX_PIXELS", limit)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.filters", [(action, None, Warning, None, 0)])
        reason = refusal(tmp_path / "a.png")
    assert reason.startswith("it has 8 x 8 pixels, ")
    assert "--max-megapixels" in reason
    assert read_image(tmp_path / "a.png", ImageFormat(max_pixels=64)).size == (8, 8)


@pytest.mark.parametrize(
    "suffix", ["png", "jpg", "gif", "tif", "jp2", "webp", "ppm", "bmp", "avif"]
)
def test_large_images_can_be_allowed(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.new("L", (60, 50)).convert("P" if suffix == "gif" else "RGB").save(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow would raise, not only warn
        assert read_image(path, ImageFormat(max_pixels=3000)).size == (60, 50)
        assert image_problem(path, ImageFormat(max_pixels=3000)) is None
        assert Image.MAX_IMAGE_PIXELS == 1000
    problem = image_problem(path, ImageFormat(max_pixels=2999))
    assert problem is not None
    with pytest.raises(ImageError) as caught:
        read_image(path, ImageFormat(max_pixels=2999))
    assert caught.value.reason == problem.reason
    assert problem.reason.startswith("it has 60 x 50 pixels, 0.003 megapixels")


def test_the_limit_of_pixels_is_no_part_of_a_format() -> None:
    assert ImageFormat(max_pixels=5) == ImageFormat()
    assert repr(ImageFormat(max_pixels=5)) == repr(ImageFormat())


def test_what_the_refusal_asks_for_is_enough(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 12000, 9001, 8, 2, 0, 0, 0)
    chunk = (
        struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    )
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 9) + b"IDAT" + bytes(13))
    assert refusal(path) == (
        "it has 12000 x 9001 pixels, 108.012 megapixels, and 89.48 are allowed, as larger images "
        "may be decompression bombs; if it is none, give --max-megapixels 108.1"
    )
    assert image_problem(path, make_image_format(None, None, 108.1)) is None


def test_no_library_speaks_to_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8))
    for name in (
        "tiff_lzw",
        "jpeg",
        "tiff_adobe_deflate",
        "zstd",
        "packbits",
        "webp",
        "avif",
        "jp2",
    ):
        path = tmp_path / (f"{name}.tif" if name not in ("webp", "avif", "jp2") else f"a.{name}")
        noise.save(path, compression=name) if path.suffix == ".tif" else noise.save(path)
        content = bytearray(path.read_bytes())
        for start in range(0, len(content), len(content) // 12):
            damaged = bytes(byte ^ 0x55 for byte in content[start : start + 90])
            path.write_bytes(content[:start] + damaged + content[start + 90 :])
            with contextlib.suppress(ImageError):
                read_image(path)
            image_problem(path)
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_memory_shortage_is_not_blamed_on_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_file: object) -> None:
        raise MemoryError

    (tmp_path / "a.png").write_bytes(b"x")
    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(MemoryError):
        read_image(tmp_path / "a.png")


def test_error_survives_pickling() -> None:
    error = ImageError(Path("a/b.jpg"), "it is empty (0 bytes)")
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error) == "Cannot read the image a/b.jpg: it is empty (0 bytes)."
    assert (copy.path, copy.reason) == (error.path, error.reason)


@pytest.mark.parametrize("suffix", ["gif", "jpg", "png", "tif", "webp"])
def test_file_is_closed(tmp_path: Path, suffix: str) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("open files cannot be listed here")
    path = tmp_path / f"a.{suffix}"
    frames = [Image.effect_noise((40, 40), level).convert("RGB") for level in (20, 90)]
    options: dict[str, Any] = {} if suffix == "jpg" else {"save_all": True}
    frames[0].save(path, append_images=frames[1:], **options)

    def is_open() -> bool:
        return path.resolve() in [link.resolve() for link in descriptors.iterdir()]

    with path.open("rb"):
        assert is_open()
    image = read_image(path)
    assert not is_open()
    assert image.resize((8, 8)).size == (8, 8)  # The pixels do not need the file any more.

    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(ImageError) as caught:
        read_image(path)
    assert caught.value.__cause__ is not None  # The traceback keeps the decoder's frames alive.
    assert not is_open()


def test_extensions_are_ones_that_pillow_opens() -> None:
    assert {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif"} <= IMAGE_EXTENSIONS
    formats = Image.registered_extensions()
    unreadable = {suffix for suffix in IMAGE_EXTENSIONS if formats.get(suffix) not in Image.OPEN}
    assert not unreadable - {".avif", ".jp2"}  # These two depend on how Pillow was built.


# --- plain PNGs


@pytest.fixture
def decoded_by_pillow(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Modes of the PNGs that Pillow had to decode."""
    modes: list[object] = []
    load = PngImageFile.load

    def record(image: PngImageFile) -> Any:
        modes.append(image.mode)
        return load(image)

    monkeypatch.setattr(PngImageFile, "load", record)
    return modes


@pytest.mark.parametrize("save", [{}, {"compress_level": 0}, {"optimize": True}, {"dpi": (72, 72)}])
def test_plain_pngs_are_decoded_by_spng(
    tmp_path: Path, decoded_by_pillow: list[object], save: dict[str, Any]
) -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", **save)
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "a.png")), pixels)
    assert decoded_by_pillow == []
    content = (tmp_path / "a.png").read_bytes()
    for length in range(1, len(content) - 13, 83):
        (tmp_path / "cut.png").write_bytes(content[:length])
        assert refusal(tmp_path / "cut.png")


def test_other_pngs_are_decoded_by_pillow(tmp_path: Path, decoded_by_pillow: list[object]) -> None:
    rng = np.random.default_rng(6)
    rgb = Image.fromarray(rng.integers(0, 256, (9, 8, 3), dtype=np.uint8))
    frames = [Image.fromarray(rng.integers(0, 256, (9, 8, 3), dtype=np.uint8)) for _ in range(2)]
    rgb.save(tmp_path / "key.png", transparency=(1, 2, 3))
    rgb.save(tmp_path / "animated.png", save_all=True, append_images=frames)
    rgb.convert("RGBA").save(tmp_path / "alpha.png")
    text = PngInfo()
    text.add_text("Comment", "none")
    rgb.save(tmp_path / "text.png", pnginfo=text)
    expected = np.asarray(rgb)
    for count, path in enumerate(sorted(tmp_path.iterdir()), 1):
        np.testing.assert_array_equal(np.asarray(read_image(path)), expected, err_msg=path.name)
        assert len(decoded_by_pillow) >= count, path


def test_exif_behind_the_pixels_counts(tmp_path: Path) -> None:
    path, exif = tmp_path / "a.png", Image.Exif()
    exif[0x0112] = 3
    row("RGB", RED, GREEN, BLUE).save(path)
    content, block = path.read_bytes(), exif.tobytes()[6:]
    chunk = struct.pack(">I", len(block)) + b"eXIf" + block
    chunk += struct.pack(">I", zlib.crc32(b"eXIf" + block))
    path.write_bytes(content[:-12] + chunk + content[-12:])
    assert first_row(path) == [BLUE, GREEN, RED]


def test_deep_pngs_are_decoded_by_pillow(tmp_path: Path, decoded_by_pillow: list[object]) -> None:
    pixels = np.random.default_rng(7).integers(0, 65536, (6, 5, 3), dtype=np.uint16)
    (tmp_path / "deep.png").write_bytes(imagecodecs.png_encode(pixels))
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "deep.png")), pixels >> 8)
    assert len(decoded_by_pillow) >= 1
