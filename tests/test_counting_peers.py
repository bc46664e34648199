"""What the benchmark of counting compares with: density maps, and detectors tuned by MAE."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from blob_counting import DETECTORS, count_with, count_with_all, tune
from density_map import DensityMap, density
from PIL import Image
from skimage import feature, filters
from torch import nn

from helper_functions.data.flags import InputSettings
from helper_functions.tasks.count.flags import TrainingSettings


@pytest.mark.parametrize("sigma", [0.8, 4.0, 15.0])
def test_a_density_map_sums_to_the_points_also_at_borders_and_on_one_pixel(sigma: float) -> None:
    points = np.array([[0, 0], [29, 19], [29.4, 3], [-0.5, 10], [7, 7], [7.2, 6.9], [12, 0]])
    classes = np.array([0, 0, 1, 1, 0, 0, 1])
    maps = density(points, classes, (2, 20, 30), sigma)
    assert maps.shape == (2, 20, 30)
    assert maps.sum(axis=(1, 2)) == pytest.approx([4, 3], rel=1e-5)


def test_a_density_map_is_a_gaussian_around_the_point() -> None:
    (found,) = density(np.array([[20.3, 29.8]]), np.array([0]), (1, 61, 41), 3.0)
    rows, columns = np.mgrid[:61, :41]
    wanted = np.exp(-((rows - 30) ** 2 + (columns - 20) ** 2) / 18) / (18 * np.pi)
    np.testing.assert_allclose(found, wanted, atol=2e-4 * wanted.max())


def test_a_network_that_gives_the_density_loses_nothing_and_counts_the_points() -> None:
    training = TrainingSettings({"name": "dilated"})
    task = DensityMap(["object"], InputSettings(), training=training)
    points = torch.tensor([[2.0, 3, 0], [20, 10, 0], [11, 0, 0]])
    sizes = [(16, 24), (12, 12)]  # the second image is padded
    learned = torch.full((2, 1, 16, 24), 5.0)  # where it is padding, it must not matter
    for row, target, (height, width) in zip(learned, (points, points[:1]), sizes, strict=True):
        xy, classes = target[:, :2].numpy(), target[:, 2].long().numpy()
        wanted = density(xy, classes, (1, height, width), task.sigma)
        row[:, :height, :width] = torch.from_numpy(wanted) * 2 * np.pi * task.sigma**2

    class Given(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return learned[: len(images)]

    images = torch.zeros(2, 3, 16, 24)
    loss = task.loss(Given(), images, [points, points[:1]], sizes)["loss"]
    assert float(loss) == pytest.approx(0, abs=1e-9)
    found = task.predict(Given(), images, sizes)["count"]
    np.testing.assert_allclose(np.asarray(found), [3, 1], rtol=1e-4)


def test_tuning_takes_the_setting_and_threshold_of_the_lowest_mae() -> None:
    true = np.array([4, 10, 6])
    counts = np.full((3, 2, 4), 99)
    counts[:, 0, 1] = (4, 10, 13)  # mean error 2.33
    counts[:, 1, 2] = (5, 12, 5)  # mean error 1.33
    counts[:, 1, 3] = (8, 6, 6)  # no bias, but a mean error of 2.67
    assert tune(counts, true) == (1, 2)


def test_thresholds_after_the_search_for_peaks_are_those_of_the_search() -> None:
    image = np.random.default_rng(0).random((60, 80))
    detector = DETECTORS["peak_local_max"]
    settings = {"sigma": 1.0, "min_distance": 4.0}
    found = detector.count(image, settings, (0.0, 0.6, 0.65, 0.7))
    smooth = filters.gaussian(image, 1.0)
    wanted = [
        len(feature.peak_local_max(smooth, 4, threshold, exclude_border=False))
        for threshold in (0.0, 0.6, 0.65, 0.7)
    ]
    assert found == wanted
    assert len(set(wanted)) == 4


@pytest.mark.parametrize("name", DETECTORS)
def test_a_chosen_setting_counts_as_it_did_among_all(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    bumps = filters.gaussian(rng.random((40, 56, 3)), (2, 2, 0))
    pixels = 255 * (bumps - bumps.min()) / np.ptp(bumps)
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "image.png")
    path = tmp_path / "image.png"
    counts = count_with_all(path, name, "green")
    assert counts.shape == (len(DETECTORS[name].settings), len(DETECTORS[name].thresholds))
    assert len(np.unique(counts)) > 5
    for setting, threshold in ((0, 0), (1, 3), (2, 1)):
        assert count_with(path, name, "green", setting, threshold) == counts[setting, threshold]
