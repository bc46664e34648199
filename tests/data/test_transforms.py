"""The augmentation against torchvision, plain NumPy oracles and the released recipe's figures."""

from __future__ import annotations

import importlib
import math
import pickle
import random
from collections import Counter
from collections.abc import Sequence

import numpy as np
import PIL
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from helper_functions.data import transforms
from helper_functions.data.transforms import (
    POLICY,
    EvalTransform,
    Normalise,
    Resize,
    TrainTransform,
    cutout,
    fast_resize,
    rand_augment,
    resize,
    to_pixels,
)
from helper_functions.runtime.errors import UserError

# torchvision ships no types, so it is imported by name.
reference = importlib.import_module("torchvision.transforms.functional")

SIZES = [(1, 1), (2000, 3), (3, 2000), (2, 2), (1, 300), (37, 53)]


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, size=(height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def ramp() -> Image.Image:
    """Every value 0..255 once in each channel, in three orders."""
    values = np.arange(256, dtype=np.uint8)
    channels = np.stack([values, values[::-1], np.roll(values, 99)], axis=-1)
    return Image.fromarray(channels.reshape(16, 16, 3))


def to_tensor(image: Image.Image) -> Tensor:
    """The picture as the model sees it, float32 (3, H, W)."""
    return Normalise()(to_pixels(image))


def array(image: Image.Image) -> np.ndarray:
    assert image.mode == "RGB"
    return np.asarray(image).astype(np.int64)


class Scripted(random.Random):
    """A source whose integers are given beforehand, for tests of one exact draw."""

    def __init__(self, *integers: int) -> None:
        super().__init__(0)
        self.integers = list(integers)

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        value = self.integers.pop(0)
        assert value in (range(start) if stop is None else range(start, stop, step))
        return value


# --- tensors and resizing


@pytest.mark.parametrize("size", SIZES)
def test_to_tensor_equals_torchvision(size: tuple[int, int]) -> None:
    image = noise(*size)
    tensor = to_tensor(image)
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous()
    assert torch.equal(tensor, reference.to_tensor(image))


def test_pixels_own_their_memory() -> None:
    image = ramp()
    before = array(image)
    pixels = to_pixels(image)
    assert (pixels.dtype, pixels.shape) == (torch.uint8, (3, 16, 16))
    assert pixels.is_contiguous()
    pixels.zero_()
    np.testing.assert_array_equal(array(image), before)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_levels_become_the_same_floats_on_every_device(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA here")
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(256, 3, 1, 1)
    shares = (levels / np.float32(255)).astype(np.float32)
    moments = np.array([mean, std], np.float32).reshape(2, 3, 1, 1)
    normalised = (shares - moments[0]) / moments[1]
    pixels = torch.from_numpy(levels).to(device)
    np.testing.assert_array_equal(Normalise()(pixels).cpu(), shares)
    np.testing.assert_array_equal(Normalise(mean, std)(pixels).cpu(), normalised)
    np.testing.assert_array_equal(pixels.cpu(), levels)
    with torch.inference_mode():
        Normalise(std, mean)(pixels)
    weight = torch.ones(1, device=device, requires_grad=True)  # constants made in inference mode
    (gradient,) = torch.autograd.grad((Normalise(std, mean)(pixels) * weight).sum(), weight)
    assert gradient.isfinite()  # must serve in training too


def test_a_normalised_batch_stays_in_the_order_of_memory() -> None:
    pixels = torch.zeros(2, 3, 4, 5, dtype=torch.uint8)
    for layout in (torch.contiguous_format, torch.channels_last):
        values = Normalise([0.5] * 3, [0.5] * 3)(pixels.contiguous(memory_format=layout))
        assert values.is_contiguous(memory_format=layout)
        assert values.dtype == torch.float32


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", [1, 24, 64])
def test_resize_equals_torchvision(size: tuple[int, int], side: int) -> None:
    image = noise(*size)
    expected = reference.resize(image, [side, side], reference.InterpolationMode.BILINEAR)
    np.testing.assert_array_equal(array(resize(image, side)), array(expected))


@pytest.mark.parametrize("size", [*SIZES, (304, 304), (640, 360)])
@pytest.mark.parametrize("side", [1, 24, 64, 224])
def test_the_fast_resize_is_at_most_one_level_away(size: tuple[int, int], side: int) -> None:
    image = noise(*size)
    before = array(image)
    fast = fast_resize(image, side)
    assert (fast.size, fast.mode) == ((side, side), "RGB")
    difference = array(fast) - array(resize(image, side))
    assert np.abs(difference).max() <= 1
    if min(size) > 100 and side > 100:
        assert (difference != 0).mean() < 0.01
        assert abs(difference.mean()) < 0.002  # no brighter and no darker
    np.testing.assert_array_equal(array(image), before)


@pytest.mark.parametrize("fast", [False, True])
def test_a_picture_of_the_right_size_is_not_resized(fast: bool) -> None:
    image = noise(24, 24)
    assert Resize(24, fast)(image) is image
    np.testing.assert_array_equal(array(fast_resize(image, 24)), array(image))
    assert Resize(24, fast)(noise(24, 23)).size == (24, 24)


def test_what_decides_the_pixels_of_a_resize() -> None:
    described = {str(Resize(side, fast)) for side in (24, 25) for fast in (False, True)}
    assert len(described) == 4
    assert any(PIL.__version__ in text for text in described)
    assert any(torch.__version__ in text for text in described)


def test_resize_is_the_antialiased_bilinear_of_the_textbook() -> None:
    image = noise(61, 37)
    expected = torch.nn.functional.interpolate(
        to_tensor(image)[None], (24, 24), mode="bilinear", align_corners=False, antialias=True
    )[0]
    torch.testing.assert_close(to_tensor(resize(image, 24)), expected, rtol=0, atol=1.01 / 255)


# --- Cutout


@pytest.mark.parametrize(
    ("centre", "columns", "rows"),
    [
        ((112, 112), (56, 168), (56, 168)),  # 113 x 113
        ((0, 0), (0, 56), (0, 56)),
        ((223, 0), (167, 223), (0, 56)),
        ((56, 223), (0, 112), (167, 223)),
        ((57, 55), (1, 113), (0, 111)),
    ],
)
def test_cutout_paints_both_end_pixels(
    centre: tuple[int, int], columns: tuple[int, int], rows: tuple[int, int]
) -> None:
    image = noise(224, 224)
    expected = array(image)
    expected[rows[0] : rows[1] + 1, columns[0] : columns[1] + 1] = (9, 8, 7)
    painted = cutout(image, Scripted(*centre, 9, 8, 7))
    np.testing.assert_array_equal(array(painted), expected)


@pytest.mark.parametrize(
    ("size", "factor", "reach"),
    [
        ((100, 40), 0.5, (25, 10)),
        ((101, 41), 0.5, (25, 10)),
        ((103, 43), 0.5, (26, 11)),
        ((100, 40), 0.3, (15, 6)),
        ((100, 40), 1.0, (50, 20)),
        ((5, 1), 0.5, (1, 0)),
        ((1, 1), 0.5, (0, 0)),
    ],
)
def test_cutout_reach(size: tuple[int, int], factor: float, reach: tuple[int, int]) -> None:
    x, y = size[0] // 2, size[1] // 2
    painted = cutout(Image.new("RGB", size), Scripted(x, y, 255, 255, 255), factor)
    rows, columns = np.nonzero(array(painted).all(axis=-1))
    assert (columns.min(), columns.max()) == (x - reach[0], min(x + reach[0], size[0] - 1))
    assert (rows.min(), rows.max()) == (y - reach[1], min(y + reach[1], size[1] - 1))


def test_cutout_coverage_is_the_released_one() -> None:
    # Golden figures of the released code: 2000 draws on 224 x 224, factor 0.5.
    golden = {"mean": 0.19634508529974487, "std": 0.05104283527830602}
    smallest, largest = 0.06702407525510204, 0.25448421556122447
    image, rng = Image.new("RGB", (224, 224)), random.Random(0)
    colours, shares = [], []
    for _ in range(2000):
        painted = np.asarray(cutout(image, rng)).reshape(-1, 3)
        covered = painted.any(axis=-1)
        shares.append(covered.mean())
        colours.append(painted[covered.argmax()])
    # Both means are estimates from 2000 draws, so their difference has sqrt(2) the standard error.
    assert abs(np.mean(shares) - golden["mean"]) < 4 * golden["std"] * (2 / 2000) ** 0.5
    assert abs(np.std(shares) - golden["std"]) < 0.003
    # Centres uniform over the pixels: 112 of 224 positions see all 113, the others 57 to 112.
    mean_side = (112 * 113 + 2 * sum(range(57, 113))) / 224
    exact = (mean_side / 224) ** 2
    assert abs(np.mean(shares) - exact) < 4 * np.std(shares) / 2000**0.5
    assert max(shares) == pytest.approx(largest) == 113 * 113 / 224**2
    assert 57 * 57 / 224**2 <= min(shares) < smallest * 1.1
    # Uniform over 0..255: mean 127.5, standard deviation 73.9, independent channels.
    np.testing.assert_allclose(np.mean(colours, axis=0), 127.5, atol=4 * 73.9 / 2000**0.5)
    np.testing.assert_allclose(np.std(colours, axis=0), 73.9, atol=4)
    assert np.abs(np.corrcoef(np.transpose(colours)) - np.eye(3)).max() < 0.1
    assert np.min(colours) == 0
    assert np.max(colours) == 255


# --- RandAugment: the policy


@pytest.mark.parametrize(
    ("names", "first", "last"),
    [
        (["shear_x", "shear_y"], 0, 0.3),
        (["translate_x", "translate_y"], 0, 150 / 331),
        (["rotate"], 0, 30),
        (["colour", "contrast", "sharpness", "brightness"], 0, 0.9),
        (["posterize"], 8, 4),
        (["solarize"], 256, 0),
        (["cutout"], 0, 20),
    ],
)
def test_magnitudes(names: list[str], first: float, last: float) -> None:
    for name in names:
        np.testing.assert_allclose(POLICY[name][1], np.linspace(first, last, 10), atol=1e-12)


def test_policy_has_the_fifteen_operations() -> None:
    names = "shear_x shear_y translate_x translate_y rotate colour posterize solarize contrast "
    names += "sharpness brightness autocontrast equalize invert cutout"
    assert sorted(POLICY) == sorted(names.split())
    assert len({operation for operation, _ in POLICY.values()}) == 15
    assert {len(magnitudes) for _, magnitudes in POLICY.values()} == {10}


def test_policy_draws_cells_uniformly_and_applies_half(monkeypatch: pytest.MonkeyPatch) -> None:
    applied: list[tuple[str, float]] = []

    def recorder(name: str) -> transforms.Operation:
        def record(image: Image.Image, magnitude: float, _rng: random.Random) -> Image.Image:
            applied.append((name, magnitude))
            return image

        return record

    indices = tuple(range(10))
    recorders = {name: (recorder(name), indices) for name in POLICY}
    monkeypatch.setattr(transforms, "POLICY", recorders)
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
    assert set(cells) == {(name, index) for name in POLICY for index in range(1, 10)}
    expected = calls / 135
    chi_square = sum((count - expected) ** 2 / expected for count in cells.values())
    assert 134 - 4 * 268**0.5 < chi_square < 134 + 4 * 268**0.5


@pytest.mark.parametrize("operations", [0, 1, 5])
def test_number_of_operations(monkeypatch: pytest.MonkeyPatch, operations: int) -> None:
    applied: list[float] = []

    def record(image: Image.Image, magnitude: float, _rng: random.Random) -> Image.Image:
        applied.append(magnitude)
        return image

    recorders = {name: (record, magnitudes) for name, (_, magnitudes) in POLICY.items()}
    monkeypatch.setattr(transforms, "POLICY", recorders)
    counts = []
    rng = random.Random(0)
    for _ in range(400):
        applied.clear()
        rand_augment(ramp(), rng, operations)
        counts.append(len(applied))
    assert set(counts) == set(range(operations + 1))


# --- RandAugment: the operations


def outcomes(name: str, image: Image.Image, index: int) -> list[np.ndarray]:
    """All different results of an operation at a magnitude index over 40 seeds."""
    operation, magnitudes = POLICY[name]
    before = array(image)
    results = [
        array(operation(image, magnitudes[index], random.Random(seed))) for seed in range(40)
    ]
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


@pytest.mark.parametrize("size", [(30, 20), (224, 224), (1, 1), (2, 5)])
@pytest.mark.parametrize("index", range(1, 10))
def test_operations_on_single_values_equal_pillows(size: tuple[int, int], index: int) -> None:
    image = noise(*size)
    bits, threshold = (POLICY[name][1][index] for name in ("posterize", "solarize"))
    expected = {
        "posterize": ImageOps.posterize(image, round(bits)),
        "solarize": ImageOps.solarize(image, math.ceil(threshold)),
        "invert": ImageOps.invert(image),
        "equalize": ImageOps.equalize(image),
    }
    for name, wanted in expected.items():
        assert_outcomes(name, image, index, [array(wanted)])


@pytest.mark.parametrize("size", [(30, 20), (224, 224), (1, 1)])
@pytest.mark.parametrize(
    "ranges",
    [
        [(0, 255), (0, 255), (0, 255)],  # nothing to stretch
        [(0, 254), (0, 255), (1, 255)],
        [(7, 7), (0, 0), (255, 255)],  # a single value
        [(7, 8), (0, 1), (254, 255)],
        [(3, 250), (40, 101), (99, 255)],
    ],
)
def test_autocontrast_equals_pillows(size: tuple[int, int], ranges: list[tuple[int, int]]) -> None:
    bands = [
        band.point([round(low + level * (high - low) / 255) for level in range(256)])
        for band, (low, high) in zip(noise(*size).split(), ranges, strict=True)
    ]
    image = Image.merge("RGB", bands)
    assert_outcomes("autocontrast", image, 5, [array(ImageOps.autocontrast(image))])


def blends(flat: np.ndarray, image: Image.Image, index: int) -> list[np.ndarray]:
    """Both signs of an enhancement: from the `flat` picture towards `image` by 1 +- magnitude."""
    amounts = (1 - 0.1 * index, 1 + 0.1 * index)
    return [np.clip(flat + amount * (array(image) - flat), 0, 255) for amount in amounts]


@pytest.mark.parametrize("index", [1, 6, 9])
def test_brightness(index: int) -> None:
    expected = blends(np.zeros((20, 30, 3)), noise(30, 20), index)
    assert_outcomes("brightness", noise(30, 20), index, expected, atol=1)


@pytest.mark.parametrize("index", [1, 6, 9])
def test_colour(index: int) -> None:
    grey = array(noise(30, 20)) @ [0.299, 0.587, 0.114]
    expected = blends(np.repeat(grey[..., None], 3, axis=-1), noise(30, 20), index)
    assert_outcomes("colour", noise(30, 20), index, expected, atol=2)


@pytest.mark.parametrize("index", [1, 6, 9])
def test_contrast(index: int) -> None:
    mean_grey = (array(noise(30, 20)) @ [0.299, 0.587, 0.114]).mean()
    expected = blends(np.full((20, 30, 3), mean_grey), noise(30, 20), index)
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
    """The picture moved by whole pixels, grey where it moved away."""
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
    canvas = np.zeros((64, 64, 3), dtype=np.uint8)
    canvas[:, 30:34] = 255
    swap = (1, 0, 2) if axis == "y" else (0, 1, 2)
    image = Image.fromarray(np.ascontiguousarray(canvas.transpose(swap)))
    slopes = []
    for result in outcomes(f"shear_{axis}", image, index):
        rows = result.transpose(swap)
        assert np.isin(rows[0, [2, 61]], 0).all()  # The first row hardly moves,
        assert (rows[-1] == 128).all(axis=-1).any()  # the last one most: grey shows.
        # Where the line is in each row, by its centre of mass; the grey is not part of it.
        weights = np.where(rows[..., 0] == 128, 0, rows[..., 0]).astype(np.float64)
        centres = (weights * np.arange(64)).sum(axis=1) / weights.sum(axis=1)
        np.testing.assert_allclose(centres[0], 31.5, atol=0.3)
        slopes.append(np.polyfit(np.arange(64), centres, 1)[0])
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
    canvas = np.full((64, 64, 3), 64, dtype=np.uint8)
    canvas[32:, :32] = canvas[:32, 32:] = 192
    for result in outcomes(f"shear_{axis}", Image.fromarray(canvas), 3):
        assert result.min() < 64
        assert result.max() > 192


@pytest.mark.parametrize("index", [1, 5, 9])
def test_rotate(index: int) -> None:
    canvas = np.zeros((101, 101, 3), dtype=np.uint8)
    canvas[47:54, 77:84] = 255  # A mark 30 pixels to the right of the centre (50, 50).
    (result,) = outcomes("rotate", Image.fromarray(canvas), index)  # One result: one sign.
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
    operation, magnitudes = POLICY["cutout"]
    image = Image.new("RGB", (50, 30))
    for x, y in [(25, 15), (0, 0), (49, 29), (0, 15)]:
        expected = np.zeros((30, 50, 3), dtype=np.int64)
        left, top = x - side // 2, y - side // 2
        expected[max(top, 0) : top + side, max(left, 0) : left + side] = (125, 122, 113)
        result = operation(image, magnitudes[index], Scripted(x, y))
        np.testing.assert_array_equal(array(result), expected)


# --- randomness


def test_same_seed_same_result() -> None:
    image = noise(90, 70)
    transform = TrainTransform(48, horizontal_flip=True)
    tensors = [transform(image, random.Random(seed)) for seed in range(60)]
    random.seed(1)  # The global generators have no say.
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    again = [transform(image, random.Random(seed)) for seed in range(60)]
    assert all(torch.equal(*pair) for pair in zip(tensors, again, strict=True))
    assert len({tensor.numpy().tobytes() for tensor in tensors}) == 60


def test_global_generators_are_left_alone() -> None:
    states = (random.getstate(), str(np.random.get_state()), torch.get_rng_state())  # noqa: NPY002
    for seed in range(20):
        TrainTransform(16, horizontal_flip=True)(ramp(), random.Random(seed))
    assert random.getstate() == states[0]
    assert str(np.random.get_state()) == states[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])


def test_a_pickled_transform_gives_the_same() -> None:
    transform = TrainTransform(32, mean=[0.5] * 3, std=[0.2] * 3)
    copy = pickle.loads(pickle.dumps(transform))
    for seed in range(20):
        assert torch.equal(
            transform(ramp(), random.Random(seed)), copy(ramp(), random.Random(seed))
        )


# --- the two transforms


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("image_size", [1, 2, 33])
def test_any_picture_passes(size: tuple[int, int], image_size: int) -> None:
    image = noise(*size)
    before = array(image)
    for seed in range(60):
        tensor = TrainTransform(image_size, horizontal_flip=True)(image, random.Random(seed))
        assert tensor.shape == (3, image_size, image_size)
        assert tensor.dtype == torch.uint8
    np.testing.assert_array_equal(array(image), before)


@pytest.mark.parametrize("name", list(POLICY))
@pytest.mark.parametrize("size", [(1, 1), (300, 2), (2, 300)])
def test_every_operation_takes_any_size(name: str, size: tuple[int, int]) -> None:
    operation, magnitudes = POLICY[name]
    for magnitude in magnitudes[1:]:
        result = operation(noise(*size), magnitude, random.Random(0))
        assert (result.size, result.mode) == (size, "RGB")


def test_order_of_the_released_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, ...]] = []

    def fake_cutout(image: Image.Image, _rng: random.Random, factor: float) -> Image.Image:
        calls.append(("cutout", image.size, factor))
        return image

    def fake_rand_augment(image: Image.Image, _rng: random.Random) -> Image.Image:
        calls.append(("rand_augment", image.size))
        return image

    monkeypatch.setattr(transforms, "cutout", fake_cutout)
    monkeypatch.setattr(transforms, "rand_augment", fake_rand_augment)
    pixels = TrainTransform(20)(noise(50, 30), random.Random(0))
    assert calls == [("cutout", (20, 20), 0.5), ("rand_augment", (20, 20))]
    assert torch.equal(pixels, to_pixels(fast_resize(noise(50, 30), 20)))


def test_switches() -> None:
    image = noise(50, 30)
    resized = fast_resize(image, 20)
    off = TrainTransform(20, cutout_factor=0, rand_augment=False)
    only_cutout = TrainTransform(20, cutout_factor=0.2, rand_augment=False)
    only_policy = TrainTransform(20, cutout_factor=0)
    for seed in range(30):
        assert torch.equal(off(image, random.Random(seed)), to_pixels(resized))
        painted = cutout(resized, random.Random(seed), 0.2)
        assert torch.equal(only_cutout(image, random.Random(seed)), to_pixels(painted))
        augmented = rand_augment(resized, random.Random(seed))
        assert torch.equal(only_policy(image, random.Random(seed)), to_pixels(augmented))


def test_flip_mirrors_half_of_the_pictures() -> None:
    image = noise(20, 20)
    transform = TrainTransform(20, cutout_factor=0, rand_augment=False, horizontal_flip=True)
    plain, rng = to_pixels(image), random.Random(0)
    mirrored = 0
    for _ in range(400):
        tensor = transform(image, rng)
        mirrored += torch.equal(tensor, plain.flip(-1))
        assert torch.equal(tensor, plain) or torch.equal(tensor, plain.flip(-1))
    assert abs(mirrored - 200) < 4 * 10


def test_eval_transform() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    resized = reference.to_tensor(
        reference.resize(noise(50, 30), [20, 20], reference.InterpolationMode.BILINEAR)
    )
    plain, transform = EvalTransform(20), EvalTransform(20, mean, std)
    assert torch.equal(plain.normalise(plain(noise(50, 30))), resized)
    normalised = transform.normalise(transform(noise(50, 30)))
    torch.testing.assert_close(normalised, reference.normalize(resized, list(mean), list(std)))
    train = TrainTransform(20, mean, std, cutout_factor=0, rand_augment=False)
    pixels = train(noise(20, 20), random.Random(0))
    assert torch.equal(pixels, plain(noise(20, 20)))
    assert torch.equal(train.normalise(pixels), transform.normalise(pixels))


@pytest.mark.parametrize("size", [0, -1])
@pytest.mark.parametrize("transform", [TrainTransform, EvalTransform])
def test_impossible_size(transform: type[TrainTransform | EvalTransform], size: int) -> None:
    with pytest.raises(UserError, match=f"image size is {size}: choose at least 1 pixel"):
        transform(size)


@pytest.mark.parametrize("factor", [-0.1, 1.1, float("nan")])
def test_impossible_cutout_factor(factor: float) -> None:
    with pytest.raises(UserError, match=f"Cutout factor is {factor}: choose one from 0 to 1"):
        TrainTransform(20, cutout_factor=factor)


@pytest.mark.parametrize(("mean", "std"), [([0.5] * 3, None), (None, [0.5] * 3)])
def test_half_a_normalisation(mean: list[float] | None, std: list[float] | None) -> None:
    with pytest.raises(UserError, match="mean and the standard deviation"):
        EvalTransform(20, mean, std)


@pytest.mark.parametrize(
    ("mean", "std"),
    [([0.5], [0.5] * 3), ([0.5] * 3, [0.5] * 4), ([0.5] * 3, [0.5, 0, 0.5])],
)
def test_impossible_normalisation(mean: list[float], std: list[float]) -> None:
    with pytest.raises(UserError, match="three values each, the deviations above 0"):
        TrainTransform(20, mean, std)
