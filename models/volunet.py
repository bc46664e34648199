"""VoLUNet: backbone -> feature map -> WIC-Classifier, which also scores the regions of VDSM."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.backbones import NoFeatureMapError, create_backbone, feature_map, size_hint
from models.failures import place, reason
from models.inplace_abn import DEFAULT, INPLACE_ABN, NORMS, use_inplace_abn
from models.kan import WICClassifier
from models.pretrained import load_backbone_weights, warn_of_differences
from models.vdsm import VARIANTS, pad_regions, pool_superpixels, superpixel_labels

HEADS = ("kan", "linear")
SCORES = ("image", "regions", "mean")  # what the logits of an image are made of in evaluation


@dataclass(frozen=True)
class VoLUNetConfig:
    """Settings of what follows the backbone.

    Raises:
        ValueError: For an unknown variant or head, or an impossible grid of cells.
    """

    subsampling: bool = False  # average the feature map to sub_h x sub_w cells before VDSM
    sub_h: int = 4  # rows after subsampling
    sub_w: int = 4  # columns after subsampling
    min_superpixels: int = 6  # h*w - min_superpixels edges merge; 0 turns VDSM off
    vdsm: str = "released"  # variant of VDSM: released, corrected or nearest
    score_from: str = "image"  # the pooled feature, the cells' logits pooled, or their mean
    region_tag_sharpness: float = 4.0  # of that pooling, see ``pool_cells``; not in the paper
    head: str = "kan"  # kan is the WIC-Classifier, linear a plain layer to compare it with
    kan_grid_size: int = 5  # intervals of the KAN head's spline grid
    kan_spline_order: int = 3  # degree of its splines
    kan_grid_range: tuple[float, float] = (-1.0, 1.0)  # ends of the grid; checkpoints hold a list

    def __post_init__(self) -> None:
        object.__setattr__(self, "kan_grid_range", tuple(self.kan_grid_range))
        if self.sub_h < 1 or self.sub_w < 1 or self.min_superpixels < 0:
            raise ValueError(
                f"The grid needs sub_h and sub_w >= 1 and min_superpixels >= 0, not {self.sub_h}, "
                f"{self.sub_w} and {self.min_superpixels}."
            )
        if self.vdsm not in VARIANTS:
            raise ValueError(
                f"Unknown VDSM variant {self.vdsm!r}; choose one of {', '.join(VARIANTS)}."
            )
        if self.score_from not in SCORES:
            raise ValueError(
                f"Unknown source of scores {self.score_from!r}; choose one of {', '.join(SCORES)}."
            )
        if not self.region_tag_sharpness >= 0:
            raise ValueError(
                f"region_tag_sharpness is {self.region_tag_sharpness}; choose a number from 0."
            )
        if self.head not in HEADS:
            raise ValueError(f"Unknown head {self.head!r}; choose {' or '.join(HEADS)}.")


_CONFIG = {field.name for field in dataclasses.fields(VoLUNetConfig)}


class TrainingOutput(NamedTuple):
    """Result of a forward pass in training mode."""

    logits: Tensor  # (B, K), of the globally pooled feature
    region_logits: Tensor  # (R, K), of every region of the batch, image after image
    region_images: Tensor  # int64 (R,), the image that each region belongs to
    region_sizes: Tensor  # (R,), how many cells each region has; 0 for a row of padding


class Regions(NamedTuple):
    """The local vectors of a batch."""

    features: Tensor  # float32 (R, C)
    images: Tensor  # int64 (R,), the image that each belongs to
    sizes: Tensor  # (R,), how many cells each region has; 0 for a row of padding


class RegionScores(NamedTuple):
    """Logits of images and of their regions."""

    logits: Tensor  # (B, K), as the forward pass gives them
    labels: Tensor  # int64 (B, h, w), the region of every cell, 0..n-1 in each image
    region_logits: Tensor  # (R, K), of every region: image after image, ascending label


def average_to_grid(features: Tensor, rows: int, columns: int) -> Tensor:
    """Pool (B, C, H, W) adaptively to (B, C, rows, columns)."""
    if features.device.type == "mps":  # it pools only to sizes that divide the map's
        return F.adaptive_avg_pool2d(features.cpu(), (rows, columns)).to(features.device)
    return F.adaptive_avg_pool2d(features, (rows, columns))


def _pool(features: Tensor) -> Tensor:
    """Average over the map in float32: (B, C, H, W) -> (B, C)."""
    return features.float().mean(dim=(2, 3))


def pool_cells(logits: Tensor, sharpness: float) -> Tensor:
    """Pool the logits z of cells, (B, N, K) -> (B, K), by (1 / r) log mean exp(r z).

    The sharpness r leads from the mean (0) to the maximum (infinity).
    """
    if sharpness == 0:
        return logits.mean(dim=1)
    if math.isinf(sharpness):
        return logits.amax(dim=1)
    total = torch.logsumexp(sharpness * logits, dim=1)
    return (total - math.log(logits.shape[1])) / sharpness


class VoLUNet(nn.Module):
    """Voronoi Density-Based Locally Unique Network (Liu et al., IEEE TCSVT 2025).

    The same WIC-Classifier scores the pooled feature of the image and, in training and on request
    (``score_regions``), the mean feature of each region: superpixels of the (subsampled) map by
    VDSM, or every cell of the map if ``min_superpixels`` is 0 or not below the number of cells.

    Raises:
        ValueError: If there is no class, or the spline grid is impossible.
    """

    architecture = "volunet"
    settings: dict[str, Any]  # arguments of ``create_model`` that build the same, as plain data

    def __init__(self, backbone: nn.Module, num_classes: int, config: VoLUNetConfig) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"A classifier needs at least one class, not {num_classes}.")
        channels = int(backbone.num_features)  # type: ignore[arg-type]
        self.backbone = backbone
        self.head: nn.Module
        if config.head == "linear":
            self.head = nn.Linear(channels, num_classes)
        else:
            self.head = WICClassifier(
                (channels, num_classes),
                grid_size=config.kan_grid_size,
                spline_order=config.kan_spline_order,
                grid_range=config.kan_grid_range,
            )
        self.config = config
        self.settings = {}

    def forward(self, images: Tensor) -> Tensor | TrainingOutput:
        """Score images (B, 3, size, size): logits (B, K); in training a ``TrainingOutput``."""
        if not self.training:
            return self.score_features(feature_map(self.backbone, images))
        features = feature_map(self.backbone, images)
        pooled = _pool(features)
        regions = self.region_features(features)
        # One call for images and regions: the layer's weights are expanded once.
        logits = self.head(torch.cat([pooled, regions.features]))
        return TrainingOutput(
            logits[: len(pooled)], logits[len(pooled) :], regions.images, regions.sizes
        )

    def score_features(self, features: Tensor) -> Tensor:
        """Score images by their feature maps (B, C, H, W), as ``score_from`` asks: (B, K)."""
        logits: Tensor
        if self.config.score_from == "image":
            logits = self.head(_pool(features))
            return logits
        cells = features.flatten(2).transpose(1, 2).float()
        cell_logits = self.head(cells.flatten(0, 1)).unflatten(0, (-1, cells.shape[1]))
        logits = pool_cells(cell_logits.float(), self.config.region_tag_sharpness)
        if self.config.score_from == "mean":
            logits = (logits + self.head(_pool(features)).float()) / 2
        return logits

    def pooled_features(self, images: Tensor) -> Tensor:
        """Compute the mean features of images (B, 3, size, size): (B, C)."""
        return _pool(feature_map(self.backbone, images))

    def uses_vdsm(self, height: int, width: int) -> bool:
        """Return whether cells of a map of this size are merged; else each is a region."""
        return 0 < self.config.min_superpixels < height * width

    def region_features(self, features: Tensor) -> Regions:
        """Compute the local vectors of a map (B, C, H, W).

        Raises:
            ValueError: If ``min_superpixels`` exceeds the cells that VDSM sees.
        """
        if self.uses_vdsm(*features.shape[2:]):
            cells, labels = self.superpixels(features)
            vectors, sizes = pad_regions(cells, labels)
        else:
            vectors = features.flatten(2).transpose(1, 2).float()
            sizes = torch.ones(vectors.shape[:2], dtype=torch.long, device=features.device)
        images = torch.arange(len(features), device=features.device)[:, None].expand_as(sizes)
        regions = Regions(vectors.flatten(0, 1), images.flatten(), sizes.flatten())
        if features.is_cpu and not torch.compiler.is_compiling():
            present = regions.sizes > 0
            if not present.all():
                return Regions(*(values[present] for values in regions))
        return regions  # elsewhere counting the regions would make the host wait for the device

    def superpixels(
        self, features: Tensor, grid: tuple[int, int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Divide a feature map into regions, each cell one if VDSM is off.

        Args:
            features: The map, (B, C, H, W).
            grid: Rows and columns of cells to average the map to, whatever training does; regions
                of a grid of too few cells for VDSM are its cells.

        Returns:
            The cells that the regions consist of, (B, C, h, w): the map, subsampled if VDSM sees it
            so. And the region of each cell, int64 (B, h, w), 0..n-1 in each image.

        Raises:
            ValueError: If ``min_superpixels`` exceeds the cells that VDSM sees.
        """
        height, width = grid or features.shape[2:]
        merging = self.uses_vdsm(height, width)
        if grid is None and merging and self.config.subsampling:
            grid = self.config.sub_h, self.config.sub_w
        if grid is not None:
            features = average_to_grid(features, *grid)
        count = self.config.min_superpixels if merging else height * width
        return features, superpixel_labels(features, count, self.config.vdsm)

    @torch.no_grad()
    def score_regions(self, images: Tensor, grid: tuple[int, int] | None = None) -> RegionScores:
        """Score images and their regions in one pass; to be called in evaluation mode.

        The regions are those of the Local-NMS loss, or of a ``grid`` as for ``superpixels``.
        Training gives labels for entire images only, so region logits tell what the model has made
        of them about parts of the image.

        Raises:
            ValueError: If ``min_superpixels`` exceeds the cells that VDSM sees.
        """
        features = feature_map(self.backbone, images)
        cells, labels = self.superpixels(features, grid)
        # By itself, so that the logits are those of the forward pass to the last bit.
        regions = pool_superpixels(cells, labels)
        return RegionScores(self.score_features(features), labels, self.head(regions))

    @torch.no_grad()
    def check_grid(self, image_size: int) -> tuple[int, int]:
        """Make sure that the region settings fit the feature map; return its rows and columns.

        Raises:
            ValueError: If the backbone refuses the size or ``min_superpixels`` does not fit.
        """
        was_training = self.training
        self.eval()
        image = torch.zeros(1, 3, image_size, image_size, device=next(self.parameters()).device)
        try:
            height, width = feature_map(self.backbone, image).shape[2:]
        except (NoFeatureMapError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # timm's models refuse in many ways
            if "allocate memory" in str(error):
                raise
            raise ValueError(self._refusal(image_size, error)) from error
        finally:
            self.train(was_training)
        config, cells = self.config, self.config.sub_h * self.config.sub_w
        if self.uses_vdsm(height, width) and config.subsampling and config.min_superpixels > cells:
            raise ValueError(
                f"min_superpixels is {config.min_superpixels}, but subsampling leaves only "
                f"{config.sub_h} x {config.sub_w} = {cells} cells; lower it to {cells} or less."
            )
        return height, width

    def _refusal(self, image_size: int, error: Exception) -> str:
        """Return a sentence on why the backbone does not take images of a size, and what to do."""
        own = {"backbone_name", "num_classes", "norm", "image_size", *_CONFIG}
        further = {name: value for name, value in self.settings.items() if name not in own}
        name = self.settings.get("backbone_name", type(self.backbone).__name__)
        hint = size_hint(name, image_size, further) if self.settings else ""
        return (
            f"The backbone {name} refuses images of {image_size} x {image_size} pixels: "
            f"{reason(error)}{place(error, self.backbone)}; choose another --backbone-name{hint}."
        )


def create_model(
    backbone_name: str,
    num_classes: int,
    *,
    norm: str = DEFAULT,
    pretrained: bool = False,
    model_path: str | Path | None = None,
    image_size: int | None = None,
    **settings: Any,
) -> VoLUNet:
    """Build a VoLUNet.

    Args:
        backbone_name: A name of the original README (``tresnet_l``, ``swin_b_224_22k``, ...) or any
            timm model.
        num_classes: K.
        norm: ``default``, or ``inplace-abn`` for TResNet with less activation memory.
        pretrained: Fetch timm's published weights for the backbone.
        model_path: A weights file for the backbone. Tensors that do not fit are named in a warning.
        image_size: Side of the images; needed where a backbone's layers depend on it.
        **settings: Fields of ``VoLUNetConfig``; all others go to ``timm.create_model``.

    Raises:
        ValueError: If a setting, a name or a file is unusable; the message is for people.
    """
    if norm not in NORMS:
        raise ValueError(f"Unknown norm {norm!r}; choose {' or '.join(NORMS)}.")
    config = VoLUNetConfig(**{name: settings[name] for name in settings.keys() & _CONFIG})
    timm_settings = {name: value for name, value in settings.items() if name not in _CONFIG}
    backbone = create_backbone(
        backbone_name, pretrained=pretrained, image_size=image_size, **timm_settings
    )
    if model_path is not None:
        path = Path(model_path)
        warn_of_differences(load_backbone_weights(backbone, path), path)
    if norm == INPLACE_ABN:
        use_inplace_abn(backbone)
    model = VoLUNet(backbone, num_classes, config)
    model.settings = {
        "backbone_name": backbone_name,
        "num_classes": num_classes,
        **dataclasses.asdict(config),
        "kan_grid_range": list(config.kan_grid_range),  # plain data, as JSON has it
        "norm": norm,
        "image_size": image_size,
        **timm_settings,
    }
    return model


def check_head_sizes(settings: dict[str, Any], state: dict[str, Tensor]) -> None:
    """Compare the sizes that arguments of ``create_model`` give the head with its tensors.

    Before anything of that size is allocated: a damaged file may ask for a billion classes.

    Raises:
        ValueError: If a size differs.
    """
    knots = settings.get("kan_grid_size", 5) + 2 * settings.get("kan_spline_order", 3) + 1
    expected = [
        ("head.weight", 0, settings.get("num_classes")),
        ("head.layers.0.base_weight", 0, settings.get("num_classes")),
        ("head.layers.0.grid", 1, knots),
    ]
    for name, axis, length in expected:
        if name in state and state[name].shape[axis : axis + 1] != (length,):
            raise ValueError(
                f"by its settings the length of {name} is {length}, but its shape is "
                f"{tuple(state[name].shape)}."
            )
