"""The values of images: every container, depth and interpretation gives the 8-bit image's."""

from __future__ import annotations

import io
from collections.abc import Callable
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
    if depth in ("uint1", "uint2", "uint4"):
        values, bits = scaled(scene, depth)
        assert bits is not None
        return np.rint(values / (2**bits - 1) * 255).astype(np.uint8)
    return scene


# --- TIFF

UNSIGNED = ("uint1", "uint2", "uint4", "uint8", "uint10", "uint12", "uint16")
DEPTHS = (*UNSIGNED, "float16", "float32", "float64")
COLORS = ("gray", "white-is-zero", "rgb", "cmyk", "ycbcr", "gray-unassociated", "gray-associated")
COLORS += ("rgb-unassociated", "rgb-associated", "rgb-unspecified")
LAYOUTS = ("chunky", "planar")


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


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("color", COLORS)
def test_tiff(tmp_path: Path, color: str, depth: str, layout: str, order: str) -> None:
    samples, photometric, extra, expected = tiff_samples(color, depth)
    values, bits = scaled(samples, depth)
    tolerance = 1
    if color.endswith("-associated"):
        if depth in ("uint1", "uint2", "uint4"):
            pytest.skip("colors times transparency need more levels")
        opaque = values[..., -1:].astype(np.float64)
        white = 1 if depth.startswith("float") else 2 ** int(depth.removeprefix("uint")) - 1
        premultiplied = values[..., :-1] * (opaque / white)
        if values.dtype.kind == "u":
            premultiplied = np.rint(premultiplied)
        values[..., :-1] = premultiplied
    path = tmp_path / "a.tif"
    content = raw_tiff(
        values, photometric, bits=bits, order=order, extra=extra, planar=layout == "planar"
    )
    path.write_bytes(content)
    found = pixels(path)
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=tolerance)
