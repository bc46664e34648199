"""Resize, Cutout and the two transforms against torchvision and the released recipe's figures."""

from __future__ import annotations

import importlib
import pickle
import random

import numpy as np
import PIL
import pytest
import torch
from PIL import Image
from synthetic_images import Scripted, array, noise, ramp
from torch import Tensor

from helper_functions.data import transforms
from helper_functions.data.rand_augment import rand_augment
from helper_functions.data.transforms import (
    EvalTransform,
    Normalize,
    Resize,
    TrainTransform,
    cutout,
    fast_resize,
    to_pixels,
)
from helper_functions.runtime.errors import UserError

# torchvision ships no types, so it is imported by name.
reference = importlib.import_module("torchvision.transforms.functional")

SIZES = [(1, 1), (2000, 3), (3, 2000), (2, 2), (1, 300), (37, 53)]


def to_tensor(image: Image.Image) -> Tensor:
    """The image as the model sees it, float32 (3, H, W)."""
    return Normalize()(to_pixels(image))


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
    normalized = (shares - moments[0]) / moments[1]
    pixels = torch.from_numpy(levels).to(device)
    np.testing.assert_array_equal(Normalize()(pixels).cpu(), shares)
    np.testing.assert_array_equal(Normalize(mean, std)(pixels).cpu(), normalized)
    np.testing.assert_array_equal(pixels.cpu(), levels)
    with torch.inference_mode():
        Normalize(std, mean)(pixels)
    weight = torch.ones(1, device=device, requires_grad=True)  # constants made in inference mode
    (gradient,) = torch.autograd.grad((Normalize(std, mean)(pixels) * weight).sum(), weight)
    assert gradient.isfinite()  # must serve in training too


def test_a_normalized_batch_stays_in_the_order_of_memory() -> None:
    pixels = torch.zeros(2, 3, 4, 5, dtype=torch.uint8)
    for layout in (torch.contiguous_format, torch.channels_last):
        values = Normalize([0.5] * 3, [0.5] * 3)(pixels.contiguous(memory_format=layout))
        assert values.is_contiguous(memory_format=layout)
        assert values.dtype == torch.float32


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("side", [1, 24, 64])
def test_resize_equals_torchvision(size: tuple[int, int], side: int) -> None:
    image = noise(*size)
    expected = reference.resize(image, [side, side], reference.InterpolationMode.BILINEAR)
    np.testing.assert_array_equal(array(Resize(side)(image)), array(expected))


@pytest.mark.parametrize("size", [*SIZES, (304, 304), (640, 360)])
@pytest.mark.parametrize("side", [1, 24, 64, 224])
def test_the_fast_resize_is_at_most_one_level_away(size: tuple[int, int], side: int) -> None:
    image = noise(*size)
    before = array(image)
    fast = fast_resize(image, side)
    assert (fast.size, fast.mode) == ((side, side), "RGB")
    difference = array(fast) - array(Resize(side)(image))
    assert np.abs(difference).max() <= 1
    if min(size) > 100 and side > 100:
        assert (difference != 0).mean() < 0.01
        assert abs(difference.mean()) < 0.002  # no brighter and no darker
    np.testing.assert_array_equal(array(image), before)


@pytest.mark.parametrize("fast", [False, True])
def test_an_image_of_the_right_size_is_not_resized(fast: bool) -> None:
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
    torch.testing.assert_close(to_tensor(Resize(24)(image)), expected, rtol=0, atol=1.01 / 255)


# --- Cutout


@pytest.mark.parametrize(
    ("center", "columns", "rows"),
    [
        ((112, 112), (56, 168), (56, 168)),  # 113 x 113
        ((0, 0), (0, 56), (0, 56)),
        ((223, 0), (167, 223), (0, 56)),
        ((56, 223), (0, 112), (167, 223)),
        ((57, 55), (1, 113), (0, 111)),
    ],
)
def test_cutout_paints_both_end_pixels(
    center: tuple[int, int], columns: tuple[int, int], rows: tuple[int, int]
) -> None:
    image = noise(224, 224)
    expected = array(image)
    expected[rows[0] : rows[1] + 1, columns[0] : columns[1] + 1] = (9, 8, 7)
    painted = cutout(image, Scripted(*center, 9, 8, 7))
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
    colors, shares = [], []
    for _ in range(2000):
        painted = np.asarray(cutout(image, rng)).reshape(-1, 3)
        covered = painted.any(axis=-1)
        shares.append(covered.mean())
        colors.append(painted[covered.argmax()])
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
    np.testing.assert_allclose(np.mean(colors, axis=0), 127.5, atol=4 * 73.9 / 2000**0.5)
    np.testing.assert_allclose(np.std(colors, axis=0), 73.9, atol=4)
    assert np.abs(np.corrcoef(np.transpose(colors)) - np.eye(3)).max() < 0.1
    assert np.min(colors) == 0
    assert np.max(colors) == 255


# --- randomness


def test_same_seed_same_result() -> None:
    image = noise(90, 70)
    transform = TrainTransform(48, horizontal_flip=True)
    tensors = [transform(image, None, random.Random(seed))[0] for seed in range(60)]
    random.seed(1)  # The global generators have no effect.
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    again = [transform(image, None, random.Random(seed))[0] for seed in range(60)]
    assert all(torch.equal(*pair) for pair in zip(tensors, again, strict=True))
    assert len({tensor.numpy().tobytes() for tensor in tensors}) == 60


def test_global_generators_are_left_alone() -> None:
    states = (random.getstate(), str(np.random.get_state()), torch.get_rng_state())  # noqa: NPY002
    for seed in range(20):
        TrainTransform(16, horizontal_flip=True)(ramp(), None, random.Random(seed))
    assert random.getstate() == states[0]
    assert str(np.random.get_state()) == states[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])


def test_a_pickled_transform_gives_the_same() -> None:
    transform = TrainTransform(32, mean=[0.5] * 3, std=[0.2] * 3)
    copy = pickle.loads(pickle.dumps(transform))
    for seed in range(20):
        assert torch.equal(
            transform(ramp(), None, random.Random(seed))[0],
            copy(ramp(), None, random.Random(seed))[0],
        )


# --- the two transforms


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("image_size", [1, 2, 33])
def test_any_image_passes(size: tuple[int, int], image_size: int) -> None:
    image = noise(*size)
    before = array(image)
    for seed in range(60):
        tensor = TrainTransform(image_size, horizontal_flip=True)(image, None, random.Random(seed))[
            0
        ]
        assert tensor.shape == (3, image_size, image_size)
        assert tensor.dtype == torch.uint8
    np.testing.assert_array_equal(array(image), before)


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
    pixels = TrainTransform(20)(noise(50, 30), None, random.Random(0))[0]
    assert calls == [("cutout", (20, 20), 0.5), ("rand_augment", (20, 20))]
    assert torch.equal(pixels, to_pixels(fast_resize(noise(50, 30), 20)))


def test_switches() -> None:
    image = noise(50, 30)
    resized = fast_resize(image, 20)
    off = TrainTransform(20, cutout_factor=0, rand_augment=False)
    only_cutout = TrainTransform(20, cutout_factor=0.2, rand_augment=False)
    only_policy = TrainTransform(20, cutout_factor=0)
    for seed in range(30):
        assert torch.equal(off(image, None, random.Random(seed))[0], to_pixels(resized))
        painted = cutout(resized, random.Random(seed), 0.2)
        assert torch.equal(only_cutout(image, None, random.Random(seed))[0], to_pixels(painted))
        augmented = rand_augment(resized, random.Random(seed))
        assert torch.equal(only_policy(image, None, random.Random(seed))[0], to_pixels(augmented))


def test_flip_mirrors_half_of_the_images() -> None:
    image = noise(20, 20)
    transform = TrainTransform(20, cutout_factor=0, rand_augment=False, horizontal_flip=True)
    plain, rng = to_pixels(image), random.Random(0)
    mirrored = 0
    for _ in range(400):
        tensor, _ = transform(image, None, rng)
        mirrored += torch.equal(tensor, plain.flip(-1))
        assert torch.equal(tensor, plain) or torch.equal(tensor, plain.flip(-1))
    assert abs(mirrored - 200) < 4 * 10


def test_eval_transform() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    resized = reference.to_tensor(
        reference.resize(noise(50, 30), [20, 20], reference.InterpolationMode.BILINEAR)
    )
    plain, transform = EvalTransform(20), EvalTransform(20, mean, std)
    assert torch.equal(plain.normalize(plain(noise(50, 30))[0]), resized)
    normalized = transform.normalize(transform(noise(50, 30))[0])
    torch.testing.assert_close(normalized, reference.normalize(resized, list(mean), list(std)))
    train = TrainTransform(20, mean, std, cutout_factor=0, rand_augment=False)
    pixels = train(noise(20, 20), None, random.Random(0))[0]
    assert torch.equal(pixels, plain(noise(20, 20))[0])
    assert torch.equal(train.normalize(pixels), transform.normalize(pixels))


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
def test_half_a_normalization(mean: list[float] | None, std: list[float] | None) -> None:
    with pytest.raises(UserError, match="mean and the standard deviation"):
        EvalTransform(20, mean, std)


@pytest.mark.parametrize(
    ("mean", "std"),
    [([0.5], [0.5] * 3), ([0.5] * 3, [0.5] * 4), ([0.5] * 3, [0.5, 0, 0.5])],
)
def test_impossible_normalization(mean: list[float], std: list[float]) -> None:
    with pytest.raises(UserError, match="three values each, the deviations above 0"):
        TrainTransform(20, mean, std)
