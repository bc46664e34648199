"""RandAugment: the policy's draws, and every operation against an oracle in NumPy or Pillow."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from synthetic_images import Scripted, array, noise, ramp

from helper_functions.data import rand_augment as policy
from helper_functions.data.rand_augment import MAGNITUDES, NAMES, OPERATIONS, augment, rand_augment

# --- the policy


@pytest.mark.parametrize(
    ("names", "first", "last"),
    [
        (["shear_x", "shear_y"], 0, 0.3),
        (["translate_x", "translate_y"], 0, 150 / 331),
        (["rotate"], 0, 30),
        (["color", "contrast", "sharpness", "brightness"], 0, 0.9),
        (["posterize"], 8, 4),
        (["solarize"], 256, 0),
        (["cutout"], 0, 20),
        (["autocontrast", "equalize", "invert"], 0, 0),
    ],
)
def test_magnitudes_are_evenly_spaced(
    names: list[str], first: float, last: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in names:
        magnitudes = []

        def record(image: Image.Image, magnitude: float, _rng: random.Random) -> Image.Image:
            magnitudes.append(abs(magnitude))  # noqa: B023
            return image

        monkeypatch.setitem(OPERATIONS, name, record)
        for index in range(10):
            augment(ramp(), name, index, random.Random(0))
        np.testing.assert_allclose(magnitudes, np.linspace(first, last, 10), atol=1e-12)


def test_the_policy_has_fifteen_operations() -> None:
    names = "shear_x shear_y translate_x translate_y rotate color posterize solarize contrast "
    names += "sharpness brightness autocontrast equalize invert cutout"
    assert list(NAMES) == names.split()
    assert set(MAGNITUDES) == set(NAMES)
    assert len(set(OPERATIONS.values())) == 15


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Names and magnitude indices of what was applied."""
    calls: list[tuple[str, int]] = []

    def record(image: Image.Image, name: str, index: int, _rng: random.Random) -> Image.Image:
        calls.append((name, index))
        return image

    monkeypatch.setattr(policy, "augment", record)
    return calls


def test_the_policy_draws_cells_uniformly_and_applies_half(applied: list[tuple[str, int]]) -> None:
    image, rng, calls = ramp(), random.Random(0), 10_000
    in_call = Counter[int]()
    for _ in range(calls):
        before = len(applied)
        rand_augment(image, rng)
        in_call[len(applied) - before] += 1
    # Two independent operations, each applied with probability one half.
    for number, share in {0: 0.25, 1: 0.5, 2: 0.25}.items():
        assert abs(in_call[number] - calls * share) < 4 * (calls * share * (1 - share)) ** 0.5
    cells = Counter(applied)
    assert set(cells) == {(name, index) for name in NAMES for index in range(1, 10)}
    expected = calls / 135
    chi_square = sum((count - expected) ** 2 / expected for count in cells.values())
    assert 134 - 4 * 268**0.5 < chi_square < 134 + 4 * 268**0.5


@pytest.mark.parametrize("operations", [0, 1, 5])
def test_number_of_operations(applied: list[tuple[str, int]], operations: int) -> None:
    rng, counts = random.Random(0), set()
    for _ in range(400):
        applied.clear()
        rand_augment(ramp(), rng, operations)
        counts.add(len(applied))
    assert counts == set(range(operations + 1))


# --- the operations


def outcomes(name: str, image: Image.Image, index: int) -> list[np.ndarray]:
    """All different results of an operation at a magnitude index over 40 seeds."""
    before = array(image)
    results = [array(augment(image, name, index, random.Random(seed))) for seed in range(40)]
    np.testing.assert_array_equal(array(image), before, err_msg="the operation changed its input")
    assert {result.shape for result in results} == {before.shape}
    return list({result.tobytes(): result for result in results}.values())


def assert_outcomes(
    name: str, image: Image.Image, index: int, expected: Sequence[np.ndarray], atol: float = 0
) -> None:
    """The different results are these, each reached, in any order."""
    found = outcomes(name, image, index)
    assert len(found) == len(expected)
    for wanted in expected:
        nearest = min(found, key=lambda result: float(np.abs(result - wanted).mean()))
        np.testing.assert_allclose(nearest, wanted, rtol=0, atol=atol)


@pytest.mark.parametrize("index", range(1, 10))
def test_posterize(index: int) -> None:
    bits = [8, 8, 7, 7, 6, 6, 5, 5, 4, 4][index]
    step = 2 ** (8 - bits)
    assert_outcomes("posterize", ramp(), index, [array(ramp()) // step * step])


@pytest.mark.parametrize("index", range(1, 10))
def test_solarize(index: int) -> None:
    values, threshold = array(ramp()), 256 * (9 - index) / 9
    expected = np.where(values < threshold, values, 255 - values)
    assert_outcomes("solarize", ramp(), index, [expected])


def test_invert() -> None:
    assert_outcomes("invert", ramp(), 5, [255 - array(ramp())])


def blends(flat: np.ndarray, image: Image.Image, index: int) -> list[np.ndarray]:
    """Both signs of an enhancement: from the `flat` image towards `image` by 1 +- magnitude."""
    amounts = (1 - 0.1 * index, 1 + 0.1 * index)
    return [np.clip(flat + amount * (array(image) - flat), 0, 255) for amount in amounts]


@pytest.mark.parametrize("index", [1, 6, 9])
def test_brightness(index: int) -> None:
    expected = blends(np.zeros((20, 30, 3)), noise(30, 20), index)
    assert_outcomes("brightness", noise(30, 20), index, expected, atol=1)


@pytest.mark.parametrize("index", [1, 6, 9])
def test_color(index: int) -> None:
    gray = array(noise(30, 20)) @ [0.299, 0.587, 0.114]
    expected = blends(np.repeat(gray[..., None], 3, axis=-1), noise(30, 20), index)
    assert_outcomes("color", noise(30, 20), index, expected, atol=2)


@pytest.mark.parametrize("index", [1, 6, 9])
def test_contrast(index: int) -> None:
    mean_gray = (array(noise(30, 20)) @ [0.299, 0.587, 0.114]).mean()
    expected = blends(np.full((20, 30, 3), mean_gray), noise(30, 20), index)
    assert_outcomes("contrast", noise(30, 20), index, expected, atol=2)


@pytest.mark.parametrize("index", [1, 6, 9])
def test_sharpness(index: int) -> None:
    values = array(noise(30, 20))
    smooth = values.astype(np.float64)  # Pillow's smoothing leaves the border as it is.
    neighbours = sum(
        values[1 + dy : 19 + dy, 1 + dx : 29 + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1)
    )
    smooth[1:-1, 1:-1] = (neighbours + 4 * values[1:-1, 1:-1]) / 13
    assert_outcomes("sharpness", noise(30, 20), index, blends(smooth, noise(30, 20), index), atol=2)


@pytest.mark.parametrize("size", [(30, 20), (224, 224), (1, 1), (2, 5), (5, 2), (3, 3)])
@pytest.mark.parametrize("index", range(1, 10))
def test_sharpness_equals_pillows(size: tuple[int, int], index: int) -> None:
    image = noise(*size)
    sharpen = ImageEnhance.Sharpness(image).enhance
    factors = (1 - 0.1 * index, 1 + 0.1 * index)
    expected = {array(sharpen(factor)).tobytes() for factor in factors}
    assert {found.tobytes() for found in outcomes("sharpness", image, index)} == expected


def test_autocontrast() -> None:
    values = array(noise(30, 20)) // 3 + [10, 60, 100]
    image = Image.fromarray(values.astype(np.uint8))
    low, high = values.min(axis=(0, 1)), values.max(axis=(0, 1))
    expected = (values - low) * 255 / (high - low)
    assert_outcomes("autocontrast", image, 5, [expected], atol=1)


def test_equalize() -> None:
    values = np.sort(np.random.default_rng(0).beta(2, 6, size=(120, 120, 3)).ravel() * 255)
    image = Image.fromarray(values.reshape(120, 120, 3).astype(np.uint8))
    (result,) = outcomes("equalize", image, 5)
    for channel in range(3):
        # A flat histogram: the share of pixels up to v is v / 255, to within one bin.
        before, after = array(image)[..., channel].ravel(), result[..., channel].ravel()
        assert (np.diff(after[np.argsort(before, kind="stable")]) >= 0).all()
        largest_bin = np.bincount(before).max() / before.size
        shares = np.array([(after <= level).mean() for level in range(256)])
        assert np.abs(shares - np.arange(256) / 255).max() < largest_bin + 0.02
        assert before.max() < 240 < after.max()


def shifted(values: np.ndarray, right: int, down: int) -> np.ndarray:
    """The image moved by whole pixels, gray where it moved away."""
    height, width, _ = values.shape
    result = np.full_like(values, 128)
    target = result[max(down, 0) : height + down, max(right, 0) : width + right]
    target[...] = values[max(-down, 0) : height - down, max(-right, 0) : width - right]
    return result


@pytest.mark.parametrize("index", [1, 4, 9])
def test_translate_x(index: int) -> None:
    values, shift = array(noise(60, 40)), round(index / 9 * 150 / 331 * 60)
    expected = [shifted(values, sign * shift, 0) for sign in (-1, 1)]
    assert_outcomes("translate_x", noise(60, 40), index, expected)


@pytest.mark.parametrize("index", [1, 4, 9])
def test_translate_y(index: int) -> None:
    values, shift = array(noise(60, 40)), round(index / 9 * 150 / 331 * 40)
    expected = [shifted(values, 0, sign * shift) for sign in (-1, 1)]
    assert_outcomes("translate_y", noise(60, 40), index, expected)


@pytest.mark.parametrize("index", [2, 9])
@pytest.mark.parametrize("axis", ["x", "y"])
def test_shear(axis: str, index: int) -> None:
    # A white line from edge to edge through the middle; y is x with the two axes swapped.
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, 30:34] = 255
    swap = (1, 0, 2) if axis == "y" else (0, 1, 2)
    image = Image.fromarray(np.ascontiguousarray(stripes.transpose(swap)))
    slopes = []
    for result in outcomes(f"shear_{axis}", image, index):
        rows = result.transpose(swap)
        assert np.isin(rows[0, [2, 61]], 0).all()  # The first row hardly moves,
        assert (rows[-1] == 128).all(axis=-1).any()  # the last one most: gray shows.
        # Where the line is in each row, by its center of mass; the gray is not part of it.
        weights = np.where(rows[..., 0] == 128, 0, rows[..., 0]).astype(np.float64)
        centers = (weights * np.arange(64)).sum(axis=1) / weights.sum(axis=1)
        np.testing.assert_allclose(centers[0], 31.5, atol=0.3)
        slopes.append(np.polyfit(np.arange(64), centers, 1)[0])
    slope = 0.3 * index / 9
    np.testing.assert_allclose(sorted(slopes), [-slope, slope], atol=0.01)


@pytest.mark.parametrize("index", range(1, 10))
@pytest.mark.parametrize("size", [(224, 224), (60, 40), (40, 60), (1, 1), (300, 2), (2, 300)])
def test_shear_equals_pillows_affine_transform(size: tuple[int, int], index: int) -> None:
    image = Image.blend(noise(*size), noise(*size, seed=1).resize((2, 2)).resize(size), 0.6)
    for axis in ("x", "y"):
        for found in outcomes(f"shear_{axis}", image, index):
            differences = []
            for slope in (-0.3 * index / 9, 0.3 * index / 9):
                matrix = (1, slope, 0, 0, 1, 0) if axis == "x" else (1, 0, 0, slope, 1, 0)
                expected = image.transform(
                    image.size,
                    Image.Transform.AFFINE,
                    matrix,
                    Image.Resampling.BICUBIC,
                    fillcolor=(128, 128, 128),
                )
                differences.append(np.abs(found - array(expected)))
            nearest = min(differences, key=np.mean)
            assert nearest.max() <= 1  # Both cut fractions off: a whole number is one or the next.
            assert (nearest > 0).mean() < 0.01


@pytest.mark.parametrize("axis", ["x", "y"])
def test_shear_is_bicubic(axis: str) -> None:
    # Only a bicubic kernel overshoots: a step from 64 to 192 leaves that range.
    stripes = np.full((64, 64, 3), 64, dtype=np.uint8)
    stripes[32:, :32] = stripes[:32, 32:] = 192
    for result in outcomes(f"shear_{axis}", Image.fromarray(stripes), 3):
        assert result.min() < 64
        assert result.max() > 192


@pytest.mark.parametrize("index", [1, 5, 9])
def test_rotate(index: int) -> None:
    stripes = np.zeros((101, 101, 3), dtype=np.uint8)
    stripes[47:54, 77:84] = 255  # A mark 30 pixels to the right of the center (50, 50).
    (result,) = outcomes("rotate", Image.fromarray(stripes), index)  # One result: one sign.
    rows, columns = np.nonzero((result == 255).all(axis=-1))
    angle = np.deg2rad(30 * index / 9)  # Counter-clockwise: to the right becomes upwards.
    np.testing.assert_allclose(columns.mean(), 50 + 30 * np.cos(angle), atol=0.5)
    np.testing.assert_allclose(rows.mean(), 50 - 30 * np.sin(angle), atol=0.5)
    for corner in [(0, 0), (0, -1), (-1, 0), (-1, -1)]:
        assert result[corner].tolist() == [128, 128, 128]
    assert set(np.unique(result)) == {0, 128, 255}  # Nearest neighbour: no other value.


@pytest.mark.parametrize("index", range(1, 10))
def test_cutout_box(index: int) -> None:
    side = [0, 2, 4, 7, 9, 11, 13, 16, 18, 20][index]
    image = Image.new("RGB", (50, 30))
    for x, y in [(25, 15), (0, 0), (49, 29), (0, 15)]:
        expected = np.zeros((30, 50, 3), dtype=np.int64)
        left, top = x - side // 2, y - side // 2
        expected[max(top, 0) : top + side, max(left, 0) : left + side] = (125, 122, 113)
        result = augment(image, "cutout", index, Scripted(x, y))
        np.testing.assert_array_equal(array(result), expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(1, 1), (300, 2), (2, 300)])
def test_every_operation_takes_any_size(name: str, size: tuple[int, int]) -> None:
    for index in range(1, 10):
        result = augment(noise(*size), name, index, random.Random(0))
        assert (result.size, result.mode) == (size, "RGB")
