"""Objects of an image that is predicted in tiles: none is lost or doubled at a seam."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from helper_functions.data.flags import InputSettings
from helper_functions.tasks.count.flags import CountingSettings
from helper_functions.tasks.count.task import Count

SIDE, RADIUS = 3000, 6
TILE, CORE, MARGIN = 1024, 512, 256  # cores of tiles meet at multiples of 512 pixels


@pytest.fixture(scope="module")
def centers() -> npt.NDArray[np.int64]:
    """Rows and columns (P, 2) of discs that do not touch: on all seams and corners, and between."""
    places = np.arange(32, SIDE - 16, 32)  # every 16th is a seam
    grid = np.stack(np.meshgrid(places, places, indexing="ij"), axis=-1).reshape(-1, 2)
    moved = np.random.default_rng(0).integers(-8, 9, grid.shape)
    moved[grid % CORE == 0] = 0
    return grid + moved


@pytest.fixture(scope="module")
def canvas(centers: npt.NDArray[np.int64]) -> Tensor:
    """The discs as an image (1, 3, H, W), 1 on 0."""
    image = np.zeros((SIDE, SIDE), np.float32)
    offsets = np.mgrid[-RADIUS : RADIUS + 1, -RADIUS : RADIUS + 1].reshape(2, -1).T
    disc = offsets[(offsets**2).sum(axis=1) <= RADIUS**2]
    rows, columns = (centers[:, None] + disc).reshape(-1, 2).T
    image[rows, columns] = 1
    return torch.from_numpy(image).expand(1, 3, -1, -1)


def _find(network: nn.Module, images: Tensor, tile_size: int) -> npt.NDArray[np.float32]:
    """Return the points (P, 4) of an image."""
    task = Count(["disc"], InputSettings(), counting=CountingSettings(tile_size=tile_size))
    with torch.inference_mode():
        predictions = task.predict(network.eval(), images, [(images.shape[2], images.shape[3])])
    return predictions["points"][0]


def test_every_disc_on_a_seam_is_found_once(canvas: Tensor, centers: npt.NDArray[np.int64]) -> None:
    """A network that averages 5 x 5 pixels and asks for more than half of them."""
    network = nn.Conv2d(3, 1, 5, padding=2)
    nn.init.constant_(network.weight, 1 / 75)
    assert network.bias is not None
    nn.init.constant_(network.bias, -0.51)
    on_seams = (centers % CORE == 0) & (centers > 0)
    assert on_seams.all(axis=1).sum() == 25
    assert on_seams.any(axis=1).sum() > 800

    points = _find(network, canvas, TILE)
    assert len(points) == len(centers) > 8000
    found = points[np.lexsort((points[:, 0], points[:, 1])), 1::-1]
    expected = centers[np.lexsort((centers[:, 1], centers[:, 0]))]
    np.testing.assert_allclose(found, expected, atol=1e-3)


class _FarSeeing(nn.Sequential):
    """Sees 5 x 5 pixels, and such squares up to ``reach`` away, with random weights.

    They are whole numbers, and so are the values of all pixels, which makes sums exact in whatever
    order they are computed. Scores end in one half: none is near 0.
    """

    def __init__(self, reach: int) -> None:
        near, far = (reach - 2) // 2, (reach - 2) - (reach - 2) // 2
        super().__init__(
            nn.Conv2d(3, 2, 5, padding=2, bias=False),
            nn.ReLU(),
            nn.Conv2d(2, 2, 3, padding=near, dilation=near, bias=False),
            nn.ReLU(),
            nn.Conv2d(2, 1, 3, padding=far, dilation=far),
        )
        generator = torch.Generator().manual_seed(0)
        for parameter in self.parameters():
            parameter.data = torch.randint(-1, 2, parameter.shape, generator=generator).float()
        nn.init.constant_(self.get_parameter("4.bias"), -0.5)


def test_tiles_change_nothing_for_a_network_that_sees_as_far_as_they_overlap(
    canvas: Tensor,
) -> None:
    network = _FarSeeing(reach=MARGIN)
    whole = _find(network, canvas, 0)
    assert len(whole) > 1000
    np.testing.assert_array_equal(_find(network, canvas, TILE), whole)


def test_tiles_show_where_a_network_sees_further(canvas: Tensor) -> None:
    """So the test before this one can fail."""
    network = _FarSeeing(reach=MARGIN + 32)
    image = canvas[:, :, :600, :1200]
    assert not np.array_equal(_find(network, image, TILE), _find(network, image, 0))
