"""Run a dense network over images too large for one pass: overlapping tiles, stitched logits."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

STRIDE = 32  # tiles start at multiples of it, so that they are subsampled as the whole image is


def tiled_logits(model: Callable[[Tensor], Tensor], images: Tensor, tile_size: int) -> Tensor:
    """Compute logits (B, K, H, W) of images (B, 3, H, W), tile by tile.

    Each tile contributes its core; a quarter of its side on every side is only seen. The result is
    that of one pass as far as the network sees no further than this margin.

    Args:
        model: Images to logits of the same size.
        images: Of any size.
        tile_size: Side of a tile in pixels, rounded down to whole strides; smaller images, or
            all if it is 0, go in one pass.
    """
    height, width = images.shape[2:]
    if not tile_size or max(height, width) <= tile_size:
        return model(images)
    margin = max(tile_size // 4 // STRIDE, 1) * STRIDE
    core = max(tile_size // STRIDE * STRIDE - 2 * margin, STRIDE)
    logits: Tensor | None = None
    for top in range(0, height, core):
        for left in range(0, width, core):
            # The tile, as far as the image reaches
            first_row, first_column = max(top - margin, 0), max(left - margin, 0)
            rows = slice(first_row, min(top + core + margin, height))
            columns = slice(first_column, min(left + core + margin, width))
            part = model(images[:, :, rows, columns])
            # Its core
            inner = part[:, :, top - first_row :, left - first_column :][:, :, :core, :core]
            if logits is None:
                logits = part.new_empty(*part.shape[:2], height, width)
            logits[:, :, top : top + core, left : left + core] = inner
    assert logits is not None
    return logits
