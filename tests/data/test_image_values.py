"""The values of images: every container, depth and interpretation gives the 8-bit image's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms
from raw_tiff import (
    ASSOCIATED,
    CIELAB,
    CMYK,
    GRAY,
    ICCLAB,
    PALETTE,
    RGB,
    UNASSOCIATED,
    UNSPECIFIED,
    WHITE_IS_ZERO,
    YCBCR,
    raw_tiff,
)

from helper_functions.data.bands import ImageFormat
from helper_functions.data.images import DEFAULT, ImageError, image_problem, read_image

RNG = np.random.default_rng(11)
SCENE = RNG.integers(0, 256, (6, 9, 3), dtype=np.uint8)
SCENE[0, :3] = [(0, 0, 0), (255, 255, 255), (255, 0, 0)]
ALPHA = RNG.integers(128, 256, (6, 9, 1), dtype=np.uint8)


def pixels(path: Path, image_format: ImageFormat = DEFAULT) -> Any:
    assert image_problem(path, image_format) is None
    image = read_image(path, image_format)
    assert image.mode == "RGB"
    return np.asarray(image).astype(int)


def refusal(path: Path, image_format: ImageFormat = DEFAULT) -> str:
    """Reading and reading the header alone are refused for the same reason."""
    problem = image_problem(path, image_format)
    with pytest.raises(ImageError) as caught:
        read_image(path, image_format)
    assert problem is not None
    assert problem.reason == caught.value.reason
    return problem.reason


def by_pillow(values: Any, mode: str) -> Any:
    height, width = values.shape[:2]
    image = Image.frombytes(mode, (width, height), np.ascontiguousarray(values).tobytes())
    if mode == "LAB":
        transform = ImageCms.buildTransform(
            ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
        )
        image = ImageCms.applyTransform(image, transform)  # type: ignore[assignment]
    return np.asarray(image.convert("RGB"))


def scaled(scene: Any, depth: str) -> tuple[Any, int | None]:
    """The scene in another depth, of which black and white are the ends; and bits to be packed."""
    share = scene.astype(np.float64) / 255
    if depth.startswith("float"):
        return share.astype(depth), None
    bits = int(depth.lstrip("uint"))
    kind = "u1" if bits <= 8 else "u2" if bits <= 16 else "u4"
    return np.rint(share * (2**bits - 1)).astype(kind), None if bits in (8, 16, 32) else bits


def quantized(scene: Any, depth: str) -> Any:
    """What of an 8-bit scene is left in a lower depth."""
    if depth in LOW:
        values, bits = scaled(scene, depth)
        assert bits is not None
        return np.rint(values / (2**bits - 1) * 255).astype(np.uint8)
    return scene


# --- TIFF

UNSIGNED = ("uint1", "uint2", "uint4", "uint8", "uint10", "uint12", "uint16")
DEPTHS = (*UNSIGNED, "float16", "float32", "float64")
COLORS = (
    *("gray", "white-is-zero", "rgb", "cmyk", "ycbcr", "gray-unassociated", "gray-associated"),
    *("rgb-unassociated", "rgb-associated", "rgb-unspecified"),
)
LOW = ("uint1", "uint2", "uint4")


def tiff_samples(color: str, depth: str) -> tuple[Any, int, tuple[int, ...], Any]:
    """Return samples of 8 bits, photometric interpretation, extra bands and the RGB expected."""
    gray = quantized(SCENE[..., :1], depth)
    scene = quantized(SCENE, depth)
    alpha = quantized(ALPHA, depth)
    if color == "gray":
        return gray, GRAY, (), gray
    if color == "white-is-zero":
        return 255 - gray, WHITE_IS_ZERO, (), gray
    if color == "rgb":
        return scene, RGB, (), scene
    if color == "cmyk":
        inks = np.concatenate([scene, gray // 2 if depth[-1] not in "124" else gray], -1)
        return inks, CMYK, (), by_pillow(inks, "CMYK")
    if color == "ycbcr":
        luma = np.asarray(Image.fromarray(SCENE).convert("YCbCr"))
        luma = quantized(luma, depth)
        return luma, YCBCR, (), by_pillow(luma, "YCbCr")
    base, _, kind = color.partition("-")
    colors, photometric = (gray, GRAY) if base == "gray" else (scene, RGB)
    extra = {"unassociated": UNASSOCIATED, "associated": ASSOCIATED}.get(kind, UNSPECIFIED)
    return np.concatenate([colors, alpha], -1), photometric, (extra,), colors


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("color", COLORS)
def test_tiff(tmp_path: Path, color: str, depth: str) -> None:
    if color.endswith("-associated") and depth in LOW:
        pytest.skip("colors times transparency need more levels")
    samples, photometric, extra, expected = tiff_samples(color, depth)
    values, bits = scaled(samples, depth)
    if color.endswith("-associated"):
        white = 1 if values.dtype.kind == "f" else 2 ** int(depth.removeprefix("uint")) - 1
        colors = values[..., :-1] * (values[..., -1:].astype(np.float64) / white)
        values[..., :-1] = colors if values.dtype.kind == "f" else np.rint(colors)
    path = tmp_path / "a.tif"
    for planar in (False, True):
        for order in "<>":
            options: Any = {"bits": bits, "order": order, "extra": extra, "planar": planar}
            path.write_bytes(raw_tiff(values, photometric, **options))
            found, message = pixels(path), f"{options}"
            wanted = np.broadcast_to(expected, found.shape)
            np.testing.assert_allclose(found, wanted, atol=1, err_msg=message)


@pytest.mark.parametrize("depth", ["uint8", "uint16"])
@pytest.mark.parametrize("photometric", [CIELAB, ICCLAB])
def test_lab_tiff(tmp_path: Path, photometric: int, depth: str) -> None:
    # Colors as Pillow stores them: L* in 255 parts, a* and b* as signed bytes
    lab = SCENE.copy()
    lab[0, :3] = [(255, 0, 0), (0, 0, 0), (138, 81, 70)]  # white, black, red
    expected = by_pillow(lab, "LAB")
    np.testing.assert_allclose(expected[0, :2], [(255,) * 3, (0,) * 3], atol=1)
    signed = lab[..., 1:].view(np.int8).astype(int)
    light = lab[..., :1].astype(int)
    if depth == "uint16":
        light = light * 257 if photometric == CIELAB else np.rint(light / 255 * 0xFF00).astype(int)
        signed = signed * 256
    if photometric == ICCLAB:
        signed = signed + (128 if depth == "uint8" else 32768)
    values = np.concatenate([light, signed], -1).astype(depth)
    for planar in (False, True):
        for order in "<>":
            path = tmp_path / "a.tif"
            path.write_bytes(raw_tiff(values, photometric, order=order, planar=planar))
            np.testing.assert_allclose(pixels(path), expected, atol=1)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_palette_tiff(tmp_path: Path, bits: int) -> None:
    colors = RNG.integers(0, 256, (2**bits, 3), dtype=np.uint8)
    indices = RNG.integers(0, 2**bits, (6, 9, 1)).astype(np.uint8 if bits <= 8 else np.uint16)
    for order in "<>":
        for factor in (256, 257):
            palette = colors.astype(np.uint16) * factor
            content = raw_tiff(indices, PALETTE, bits=bits, order=order, palette=palette)
            (tmp_path / "a.tif").write_bytes(content)
            np.testing.assert_array_equal(pixels(tmp_path / "a.tif"), colors[indices[..., 0]])


@pytest.mark.parametrize("photometric", [GRAY, WHITE_IS_ZERO, RGB, CMYK])
@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint32", "int64", "uint64"])
def test_types_that_leave_black_and_white_open(
    tmp_path: Path, dtype: str, photometric: int
) -> None:
    count = {RGB: 3, CMYK: 4}.get(photometric, 1)
    values = RNG.integers(0, 100, (6, 9, count)).astype(dtype)  # all would fit 8 bits
    for order in "<>":
        path = tmp_path / "a.tif"
        path.write_bytes(raw_tiff(values, photometric, order=order))
        assert refusal(path) == (
            f"its values are of the type {dtype}, which leaves open what is black and white; give "
            f"the values of both by --value-range"
        )
        shades = np.rint(np.clip(values / 50, 0, 1) * 255).astype(np.uint8)
        if photometric == WHITE_IS_ZERO:
            shades = 255 - shades
        expected = by_pillow(shades, "CMYK") if photometric == CMYK else shades
        found = pixels(path, ImageFormat(value_range=(0, 50)))
        np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=1)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (raw_tiff(SCENE, 5), "its 3 inks are not cyan, magenta, yellow and black"),
        (raw_tiff(SCENE[..., :1], 32803), "its colors are of the kind CFA"),
        (raw_tiff(SCENE.astype("f4"), CIELAB), "its Lab colors are of the type float32"),
        (raw_tiff(SCENE.astype("f4") + 1j, RGB), "its values are of the type complex64"),
        (raw_tiff(SCENE.astype("u4"), RGB, bits=24), "its values have 24 bits"),
        (
            raw_tiff(SCENE, YCBCR, planar=True, tags=((530, "H", (2, 2)),)),
            "its YCbCr colors are subsampled",
        ),
        (
            raw_tiff(
                SCENE.astype("u2"),
                YCBCR,
                tags=((529, "R", (2126, 10000, 7152, 10000, 722, 10000)),),
            ),
            "its YCbCr colors are not those of JPEG",
        ),
    ],
)
def test_what_is_unsupported_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    assert reason in refusal(path)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
def test_reversed_bits(tmp_path: Path, bits: int) -> None:
    depth = f"uint{bits}"
    values, packed = scaled(SCENE[..., :1], depth)
    path = tmp_path / "a.tif"
    path.write_bytes(raw_tiff(values, GRAY, bits=packed, reversed_bits=True))
    gray = quantized(SCENE[..., :1], depth).repeat(3, -1)
    np.testing.assert_allclose(pixels(path), gray, atol=1)


CODECS: dict[str, dict[str, Any]] = {
    name: {"compression": name} for name in ("packbits", "lzw", "zlib", "zstd", "lzma", "png")
}
CODECS |= {
    "none": {},
    "lerc": {"compression": "lerc"},
    "jpeg2000": {"compression": "jpeg2000", "compressionargs": {"level": 0}},
    "jpegxl": {"compression": "jpegxl", "compressionargs": {"lossless": True}},
    "webp": {"compression": "webp", "compressionargs": {"lossless": True}},
    "predictor": {"compression": "zlib", "predictor": 2},
    "zstd-predictor": {"compression": "zstd", "predictor": True},
}
ONLY = {"webp": ("uint8",), "png": ("uint8", "uint16"), "jpeg2000": ("uint8", "uint16")}
ONLY |= {"predictor": ("uint8", "uint16"), "zstd-predictor": ("uint8", "uint16", "float32")}


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("codec", CODECS)
def test_compressed_tiff(tmp_path: Path, codec: str, dtype: str) -> None:
    if codec in ONLY and dtype not in ONLY[codec]:
        pytest.skip("the codec has no such type")
    scene = np.tile(SCENE, (3, 3, 1))
    values = scaled(scene, dtype)[0]
    path = tmp_path / "a.tif"
    for layout in ({}, {"tile": (16, 16)}, {"rowsperstrip": 4}):
        for order, big in (("<", False), (">", True)):
            if order == ">" and codec in ("lerc", "jpegxl", "png", "jpeg2000"):
                continue  # which have byte orders of their own
            with tifffile.TiffWriter(path, byteorder=order, bigtiff=big) as writer:
                writer.write(values, photometric="rgb", **CODECS[codec], **layout)
                writer.write(scene[::-1], photometric="rgb")  # a second page
            np.testing.assert_allclose(pixels(path), scene, atol=1, err_msg=f"{layout} {order}")


# --- other containers


def test_png_of_every_kind(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    gray, color = SCENE[..., :1], SCENE
    for depth in ("uint8", "uint16"):
        for values in (gray, color):
            for extra in (None, ALPHA):
                samples = values if extra is None else np.concatenate([values, extra], -1)
                deep = scaled(samples, depth)[0]
                path.write_bytes(imagecodecs.png_encode(deep.squeeze()))
                expected = np.broadcast_to(values, SCENE.shape)
                np.testing.assert_allclose(pixels(path), expected, atol=1)
                if depth == "uint16":
                    ranged = pixels(path, ImageFormat(value_range=(0, 257 * 50)))
                    shades = np.clip(expected / 50, 0, 1) * 255
                    np.testing.assert_allclose(ranged, shades, atol=1)
                    reordered = pixels(path, ImageFormat((1, 1, 1), (0, 65535)))
                    np.testing.assert_allclose(reordered, expected[..., [0] * 3], atol=1)
    for bits in (1, 2, 4):
        low = quantized(gray, f"uint{bits}")
        image = Image.fromarray(low[..., 0])
        image.convert("1", dither=Image.Dither.NONE).save(path) if bits == 1 else image.save(path)
        np.testing.assert_allclose(pixels(path), low.repeat(3, -1), atol=1)


def pnm(magic: str, values: Any, white: int) -> bytes:
    head: bytes = f"{magic}\n# a comment\n{values.shape[1]} {values.shape[0]}\n{white}\n".encode()
    if magic in ("P2", "P3"):
        return head + b"\n".join(b" ".join(b"%d" % v for v in row.ravel()) for row in values)
    return head + bytes(values.astype(np.uint8 if white < 256 else ">u2").tobytes())


@pytest.mark.parametrize("white", [1, 15, 100, 255, 256, 1023, 4095, 65535])
@pytest.mark.parametrize("magic", ["P2", "P3", "P5", "P6"])
def test_pnm(tmp_path: Path, magic: str, white: int) -> None:
    scene = SCENE if magic in ("P3", "P6") else SCENE[..., :1]
    values = np.rint(scene / 255 * white).astype(int)
    path = tmp_path / "a.pnm"
    path.write_bytes(pnm(magic, values, white))
    expected = np.broadcast_to(values / white * 255, SCENE.shape)
    np.testing.assert_allclose(pixels(path), expected, atol=1)
    if white > 255:
        high = white // 2
        expected = np.broadcast_to(np.clip(values / high, 0, 1) * 255, SCENE.shape)
        found = pixels(path, ImageFormat(value_range=(0, high)))
        np.testing.assert_allclose(found, expected, atol=1)


@pytest.mark.parametrize("magic", ["P1", "P4"])
def test_pbm(tmp_path: Path, magic: str) -> None:
    black = SCENE[..., 0] < 128
    data = b" ".join(b"%d" % v for v in black.ravel()) if magic == "P1" else b""
    data = data or np.packbits(black, axis=1).tobytes()
    (tmp_path / "a.pbm").write_bytes(f"{magic}\n9 6\n".encode() + data)
    expected = np.where(black[..., None], 0, 255).repeat(3, -1)
    np.testing.assert_array_equal(pixels(tmp_path / "a.pbm"), expected)


@pytest.mark.parametrize("container", ["jp2", "j2k"])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 10, 12, 16])
@pytest.mark.parametrize("bands", [1, 3, 4])
def test_jpeg_2000(tmp_path: Path, bands: int, bits: int, container: str) -> None:
    scene = np.kron(SCENE, np.ones((6, 6, 1), np.uint8))
    values = scaled(scene[..., :bands], f"uint{bits}")[0] if bands < 4 else None
    if values is None:
        alpha = np.full((*scene.shape[:2], 1), 255, np.uint8)
        values = scaled(np.concatenate([scene, alpha], -1), f"uint{bits}")[0]
    content = imagecodecs.jpeg2k_encode(
        values.squeeze(), level=0, bitspersample=bits, codecformat=container, mct=False
    )
    path = tmp_path / f"a.{container}"
    path.write_bytes(content)
    low = quantized(scene, f"uint{bits}")[..., : min(bands, 3)]
    np.testing.assert_allclose(pixels(path), np.broadcast_to(low, scene.shape), atol=1)
    if bits > 8:
        found = pixels(path, ImageFormat(value_range=(0, 2 ** (bits - 1))))
        expected = np.clip(low / 127.5, 0, 1) * 255
        np.testing.assert_allclose(found, np.broadcast_to(expected, scene.shape), atol=2)


def test_signed_jpeg_2000_is_refused(tmp_path: Path) -> None:
    values = (SCENE.astype(np.int16) - 128) * 100
    path = tmp_path / "a.jp2"
    path.write_bytes(imagecodecs.jpeg2k_encode(values[..., 0].repeat(8, 0).repeat(8, 1), level=0))
    assert refusal(path).startswith("its values are of the type int16")
    found = pixels(path, ImageFormat(value_range=(-12800, 12700)))
    np.testing.assert_allclose(found[::8, ::8], SCENE[..., [0] * 3], atol=1)


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_avif(tmp_path: Path, bits: int) -> None:
    scene = np.kron(SCENE, np.ones((8, 8, 1), np.uint8))
    values = scaled(scene, f"uint{bits}")[0]
    path = tmp_path / "a.avif"
    path.write_bytes(imagecodecs.avif_encode(values, level=100, bitspersample=bits, speed=10))
    np.testing.assert_allclose(pixels(path), scene, atol=1)
    if bits > 8:
        found = pixels(path, ImageFormat(value_range=(0, 2 ** (bits - 1))))
        np.testing.assert_allclose(found, np.clip(scene / 127.5, 0, 1) * 255, atol=2)


@pytest.mark.parametrize(("bits", "lossless"), [(8, True), (12, False), (12, True), (16, True)])
@pytest.mark.parametrize("bands", [1, 3])
def test_jpegs_that_pillow_does_not_decode(
    tmp_path: Path, bands: int, bits: int, lossless: bool
) -> None:
    scene = np.kron(SCENE, np.ones((16, 16, 1), np.uint8))[..., :bands]
    values = scaled(scene, f"uint{bits}")[0]
    content = imagecodecs.jpeg8_encode(
        values.squeeze(), level=100, lossless=lossless, bitspersample=bits, subsampling="444"
    )
    exif = Image.Exif()
    exif[0x0112] = 3
    block = exif.tobytes()
    segment = b"\xff\xe1" + (len(block) + 2).to_bytes(2) + block
    path = tmp_path / "a.jpg"
    path.write_bytes(content[:2] + segment + content[2:])
    expected = np.broadcast_to(scene[::-1, ::-1], (*scene.shape[:2], 3))
    np.testing.assert_allclose(pixels(path), expected, atol=0 if lossless and bits == 8 else 2)


@pytest.mark.parametrize("missing", ["jpg_2000", "avif"])
def test_what_pillow_was_built_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    from PIL import AvifImagePlugin, _imaging, features

    scene = np.kron(SCENE, np.ones((8, 8, 1), np.uint8))
    path = tmp_path / "a.img"
    if missing == "avif":
        path.write_bytes(imagecodecs.avif_encode(scene, level=100, speed=10))
        monkeypatch.setattr(AvifImagePlugin, "SUPPORTED", False)
    else:
        path.write_bytes(imagecodecs.jpeg2k_encode(scene, level=0))
        monkeypatch.delattr(_imaging, "jpeg2k_decoder")
    check = features.check
    monkeypatch.setattr(features, "check", lambda name: name != missing and check(name))
    np.testing.assert_allclose(pixels(path), scene, atol=1)
    assert "--max-megapixels" in refusal(path, ImageFormat(max_pixels=10))
