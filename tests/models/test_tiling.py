"""Tiles of large images against one pass."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from models.tiling import tiled_logits


class Local(nn.Module):
    """Sees 20 pixels to each side, at strides of 4 that start at the image's corner."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.down = nn.Conv2d(3, 4, 4, stride=4)
        self.wide = nn.Conv2d(4, 2, 5, padding=2, dilation=1)

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        padded = nn.functional.pad(images, (0, -width % 4, 0, -height % 4))
        maps = self.wide(self.down(padded)).repeat_interleave(4, 2).repeat_interleave(4, 3)
        assert max(height, width) <= 600
        return torch.as_tensor(maps[:, :, :height, :width])


@pytest.mark.parametrize("size", [(200, 400), (129, 131), (400, 33), (97, 128)])
@pytest.mark.parametrize("tile", [128, 160])
def test_tiles_equal_one_pass(size: tuple[int, int], tile: int) -> None:
    model = Local().eval()
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(tiled_logits(model, images, tile), model(images))


def test_tiles_are_no_larger_than_asked_for() -> None:
    seen = []

    def model(images: Tensor) -> Tensor:
        seen.append(tuple(images.shape[2:]))
        return images[:, :1]

    images = torch.rand(1, 3, 500, 900)
    assert torch.equal(tiled_logits(model, images, 128), images[:, :1])
    assert max(map(max, seen)) <= 128
    seen.clear()
    assert torch.equal(tiled_logits(model, images, 0), images[:, :1])
    assert seen == [(500, 900)]
