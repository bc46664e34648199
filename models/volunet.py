"""VoLUNet: backbone -> feature map -> WIC-Classifier, which also scores the regions of VDSM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.backbones import feature_map
from models.kan import WICClassifier
from models.vdsm import (
    VARIANTS,
    pad_regions,
    pool_superpixels,
    superpixel_labels,
)


class TrainingOutput(NamedTuple):
    """What a forward pass gives in training mode.

    Attributes:
        logits: (B, K), of the globally pooled feature.
        region_logits: (R, K), of every region of the batch, image after image.
        region_weights: ``None`` if every row is a region; else (R,), 1 for a region and 0 for a row
            of padding.
    """

    logits: Tensor
    region_logits: Tensor
    region_weights: Tensor | None


class RegionScores(NamedTuple):
    """Where in the pictures the head sees which class.

    Attributes:
        logits: (B, K), of the globally pooled feature, as the forward pass gives them.
        labels: int64 (B, h, w), the region of every cell, 0..n-1 in each image.
        region_logits: (R, K), of every region of the batch: image after image, ascending label.
    """

    logits: Tensor
    labels: Tensor
    region_logits: Tensor


def _averaging_windows(size: int, cells: int) -> Tensor:
    """Matrix (cells, size) whose rows average the windows of adaptive pooling."""
    matrix = torch.zeros(cells, size)
    for cell in range(cells):
        start, end = cell * size // cells, -(-(cell + 1) * size // cells)
        matrix[cell, start:end] = 1 / (end - start)
    return matrix


def average_by_matrices(features: Tensor, rows: int, columns: int) -> Tensor:
    """Adaptive average pooling of (B, C, H, W) to (B, C, rows, columns), as two products."""
    height, width = features.shape[2:]
    vertical = _averaging_windows(height, rows).to(features)
    horizontal = _averaging_windows(width, columns).to(features)
    return vertical @ features @ horizontal.T


def average_to_grid(features: Tensor, rows: int, columns: int) -> Tensor:
    """Adaptive average pooling of (B, C, H, W) to (B, C, rows, columns)."""
    if features.device.type == "mps":  # it pools only to sizes that divide the map's
        return average_by_matrices(features, rows, columns)
    return F.adaptive_avg_pool2d(features, (rows, columns))


def _pool(features: Tensor) -> Tensor:
    """Global average pooling in float32: (B, C, H, W) -> (B, C)."""
    return features.float().mean(dim=(2, 3))


def make_head(kind: str, channels: int, num_classes: int, **kan_settings: Any) -> nn.Module:
    """The classifier on pooled features: ``kan`` or, to compare it with, ``linear``.

    Raises:
        ValueError: For another kind, or a spline grid that cannot be.
    """
    if kind == "kan":
        return WICClassifier((channels, num_classes), **kan_settings)
    if kind == "linear":
        return nn.Linear(channels, num_classes)
    raise ValueError(f"Unknown head {kind!r}; choose kan or linear.")


class VoLUNet(nn.Module):
    """Voronoi Density-Based Locally Unique Network (Liu et al., IEEE TCSVT 2025).

    The same WIC-Classifier scores the pooled feature of the picture and, in training and on request
    (``score_regions``), the mean feature of each region: superpixels of the (subsampled) map by
    VDSM, or every cell of the map if ``min_superpixels`` is 0 or not below the number of cells.

    Args:
        backbone: A timm model without classifier.
        num_classes: K.
        subsampling: Average the map to ``sub_h`` x ``sub_w`` cells before VDSM.
        sub_h: Rows after subsampling.
        sub_w: Columns after subsampling.
        min_superpixels: See ``models.vdsm.superpixel_labels``; 0 turns VDSM off.
        vdsm: Variant of VDSM.
        head: ``kan`` (the WIC-Classifier) or ``linear``.
        kan_grid_size: Intervals of the KAN head's spline grid.
        kan_spline_order: Degree of its splines.
        kan_grid_range: Ends of the grid.
    """

    settings: dict[str, Any]  # what ``create_model`` was called with, for checkpoints

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        *,
        subsampling: bool = False,
        sub_h: int = 4,
        sub_w: int = 4,
        min_superpixels: int = 6,
        vdsm: str = "released",
        head: str = "kan",
        kan_grid_size: int = 5,
        kan_spline_order: int = 3,
        kan_grid_range: Sequence[float] = (-1.0, 1.0),
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"A classifier needs at least one class, not {num_classes}.")
        if sub_h < 1 or sub_w < 1 or min_superpixels < 0:
            raise ValueError(
                f"The grid needs sub_h and sub_w >= 1 and min_superpixels >= 0, not {sub_h}, "
                f"{sub_w} and {min_superpixels}."
            )
        if vdsm not in VARIANTS:
            raise ValueError(f"Unknown VDSM variant {vdsm!r}; choose one of {', '.join(VARIANTS)}.")
        self.backbone = backbone
        self.head = make_head(
            head,
            int(backbone.num_features),  # type: ignore[arg-type]
            num_classes,
            grid_size=kan_grid_size,
            spline_order=kan_spline_order,
            grid_range=tuple(kan_grid_range),
        )
        self.subsampling = subsampling
        self.sub_h = sub_h
        self.sub_w = sub_w
        self.min_superpixels = min_superpixels
        self.vdsm = vdsm
        self.settings = {}

    def forward(self, images: Tensor) -> Tensor | TrainingOutput:
        """Score a batch of pictures.

        Args:
            images: (B, 3, size, size).

        Returns:
            Evaluation mode: logits (B, K). Training mode: a ``TrainingOutput``.
        """
        if not self.training:
            scores: Tensor = self.head(self.pooled_features(images))
            return scores
        features = feature_map(self.backbone, images)
        pooled = _pool(features)
        regions, region_weights = self.region_features(features)
        # One call for everything: the layer's weights are expanded once.
        logits = self.head(torch.cat([pooled, regions]))
        return TrainingOutput(logits[: len(pooled)], logits[len(pooled) :], region_weights)

    def pooled_features(self, images: Tensor) -> Tensor:
        """What the head scores in evaluation: float32 (B, C) for images (B, 3, size, size)."""
        return _pool(feature_map(self.backbone, images))

    def region_features(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        """Local vectors of a feature map (B, C, H, W): float32 (R, C), and their weights.

        Raises:
            ValueError: If ``min_superpixels`` exceeds the cells that VDSM sees.
        """
        if not self.uses_vdsm(*features.shape[2:]):
            return features.flatten(2).transpose(1, 2).flatten(0, 1).float(), None
        if self.subsampling:
            features = average_to_grid(features, self.sub_h, self.sub_w)
        labels = superpixel_labels(features, self.min_superpixels, self.vdsm)
        if features.is_cpu and not torch.compiler.is_compiling():
            return pool_superpixels(features, labels), None
        # Counting the regions would make the host wait for the device: keep the padding.
        means, sizes = pad_regions(features, labels)
        return means.flatten(0, 1), (sizes > 0).flatten().float()

    def superpixels(
        self, features: Tensor, grid: tuple[int, int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Divide a feature map (B, C, H, W) into regions, each cell one if VDSM is off.

        Args:
            features: The map.
            grid: Rows and columns of cells to average the map to, whatever training does; regions
                of a grid of too few cells for VDSM are its cells.

        Returns:
            The cells that the regions consist of, (B, C, h, w): the map, subsampled if VDSM sees it
            so. And the region of each cell, int64 (B, h, w), 0..n-1 in each image.

        Raises:
            ValueError: If ``min_superpixels`` exceeds the cells that VDSM sees.
        """
        if grid is not None:
            features = average_to_grid(features, *grid)
            least = self.min_superpixels if self.uses_vdsm(*grid) else grid[0] * grid[1]
            return features, superpixel_labels(features, least, self.vdsm)
        height, width = features.shape[2:]
        if not self.uses_vdsm(height, width):
            return features, superpixel_labels(features, height * width, self.vdsm)
        if self.subsampling:
            features = average_to_grid(features, self.sub_h, self.sub_w)
        return features, superpixel_labels(features, self.min_superpixels, self.vdsm)

    @torch.no_grad()
    def score_regions(self, images: Tensor, grid: tuple[int, int] | None = None) -> RegionScores:
        """Score pictures and their regions in one pass; to be called in evaluation mode.

        The regions are those of the Local-NMS loss. Training gives labels for whole pictures only,
        so region logits tell what the model has made of them about places in the picture.

        Args:
            images: (B, 3, size, size).
            grid: Rows and columns of cells that the superpixels are found on; as in training if
                left out.

        Raises:
            ValueError: If ``min_superpixels`` exceeds the cells that VDSM sees.
        """
        features = feature_map(self.backbone, images)
        cells, labels = self.superpixels(features, grid)
        # Two calls, so that the pooled logits are those of the forward pass to the last bit.
        regions = pool_superpixels(cells, labels)
        return RegionScores(self.head(_pool(features)), labels, self.head(regions))

    def uses_vdsm(self, height: int, width: int) -> bool:
        """Whether a map of this size is merged to superpixels, or each cell is a region."""
        return 0 < self.min_superpixels < height * width

    @torch.no_grad()
    def check_grid(self, image_size: int) -> tuple[int, int]:
        """Make sure before training that the region settings fit the feature map.

        Args:
            image_size: Side of the pictures in pixels.

        Returns:
            Rows and columns of the feature map.

        Raises:
            ValueError: If the backbone refuses the size or ``min_superpixels`` does not fit.
        """
        was_training = self.training
        self.eval()
        device = next(self.parameters()).device
        try:
            features = feature_map(
                self.backbone, torch.zeros(1, 3, image_size, image_size, device=device)
            )
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"The backbone refuses pictures of {image_size} x {image_size} pixels: {reason}"
            ) from error
        finally:
            self.train(was_training)
        height, width = features.shape[2:]
        if self.uses_vdsm(height, width) and self.subsampling:
            cells = self.sub_h * self.sub_w
            if self.min_superpixels > cells:
                raise ValueError(
                    f"min_superpixels is {self.min_superpixels}, but subsampling leaves only "
                    f"{self.sub_h} x {self.sub_w} = {cells} cells; lower it to {cells} or less."
                )
        return height, width
