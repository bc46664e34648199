"""LCFCN's loss: counting objects from one point each, by making every blob hold one point.

Source: Laradji, Rostamzadeh, Pinheiro, Vazquez, Schmidt, "Where are the Blobs: Counting by
Localization with Point Supervision" (ECCV 2018), as its authors released it. Departures: batches of
several images (the mean over them), and images of one row or column, which the release refuses.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

Array = npt.NDArray[Any]
Probabilities = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]
Mode = Literal["released", "multiclass", "per-class"]

_RADIUS = 3  # of the flat 7 x 7 square of the closing


class Term(NamedTuple):
    """One part of the loss: ``scale`` times the mean cross-entropy of some pixels."""

    kind: str
    scale: float
    indices: Indices  # raster indices, ascending
    target: int  # 0 or 1


def blobs(probabilities: Array | Tensor, threshold: float = 0.5) -> npt.NDArray[np.int32]:
    """Number the 8-connected regions above a threshold, from 1 in the order of their first pixels.

    Args:
        probabilities: (H, W).
        threshold: What the probability of an object's pixel exceeds.

    Returns:
        (H, W), 0 in the background; its maximum is the count.
    """
    from scipy import ndimage  # here, since it costs what all of this package costs

    above = _numpy(probabilities) > np.float32(threshold)
    numbers: npt.NDArray[np.int32] = ndimage.label(above, np.ones((3, 3)))[0]
    return numbers


def lcfcn_terms(
    probabilities: Array | Tensor, points: Array | Tensor, roi: Array | Tensor | None = None
) -> list[Term]:
    """List the terms of one image and class.

    They are, in this order: the least probable pixel, towards 0 (``image_background``); the most
    probable one, and all points, towards 1 (``image_foreground``, ``points``; if there is a point);
    boundaries between points, towards 0: those of the whole image (``global_split``; if there are
    two) and those of each blob of two points or more (``local_split``); each blob without a point,
    towards 0 (``false_positive``).

    Args:
        probabilities: (H, W), used in float32.
        points: (H, W), 1 at the points and 0 elsewhere.
        roi: (H, W), not 0 where blobs without a point count; ``None``: everywhere.

    Raises:
        ValueError: Shapes differ, probabilities are not finite, or points neither 0 nor 1.
    """
    p, mask = _numpy(probabilities), _numpy(points, None)
    region = None if roi is None else _numpy(roi, None)
    for name, array in (("points", mask), ("roi", region)):
        if array is not None and array.shape != p.shape:
            raise ValueError(f"{name} are {array.shape}, but probabilities {p.shape}.")
    if p.ndim != 2 or p.size == 0:
        raise ValueError(f"Probabilities must be (height, width), not {p.shape}.")
    if not np.isfinite(p).all():
        raise ValueError("Probabilities must be finite.")
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError("Points must be 0 or 1 in every pixel.")
    locations = np.flatnonzero(mask)
    count = locations.size

    # The image and its points.
    terms = []
    if count < p.size:
        terms.append(Term("image_background", 1, np.array([p.argmin()]), 0))
    if count:
        terms.append(Term("image_foreground", 1, np.array([p.argmax()]), 1))
        terms.append(Term("points", count, locations, 1))

    # Boundaries.
    numbers = blobs(p)
    owners = numbers.ravel()[locations]
    points_in = np.bincount(owners, minlength=numbers.max() + 1)
    starts, pixels = _pixels_by_blob(numbers)
    if count >= 2:
        from loss_functions.flooding import boundary, boundary_within

        surface = black_top_hat(p)
        terms.append(Term("global_split", count - 1, boundary(surface, locations), 0))
        for blob in np.flatnonzero(points_in[1:] >= 2) + 1:
            own = pixels[starts[blob - 1] : starts[blob]]
            split = boundary_within(surface, locations[owners == blob], own)
            terms.append(Term("local_split", int(points_in[blob]) - 1, split, 0))

    # Blobs without a point.
    for blob in np.flatnonzero(points_in[1:] == 0) + 1:
        own = pixels[starts[blob - 1] : starts[blob]]
        if region is not None:
            own = own[region.ravel()[own] != 0]
        terms.append(Term("false_positive", 1, own, 0))
    return [term for term in terms if term.indices.size]


def black_top_hat(image: Probabilities) -> Probabilities:
    """Compute the closing by a flat 7 x 7 square, less the image, (H, W).

    The image goes on mirrored beyond its border. A window of odd size sees there only what it sees
    inside, so a border of infinities does the same.
    """
    closed = image
    for take, border in ((np.maximum, -np.inf), (np.minimum, np.inf)):
        for axis in (0, 1):
            width = [(0, 0), (0, 0)]
            width[axis] = (_RADIUS, _RADIUS)
            lines = np.moveaxis(np.pad(closed, width, constant_values=border), axis, 0)
            # Windows of two, four and seven lines.
            lines = take(lines[:-1], lines[1:])
            lines = take(lines[:-2], lines[2:])
            closed = np.moveaxis(take(lines[:-3], lines[3:]), 0, axis)
    return np.ascontiguousarray(closed - image)


class LCFCNLoss(nn.Module):
    """Loss of the terms of ``lcfcn_terms``, a mean over the images of a batch.

    A term costs ``scale`` times the mean over its pixels of the binary cross-entropy between
    probability and target, each logarithm taken as -100 at least. Which pixels a term has is
    computed from the probabilities without a gradient.

    Args:
        mode: ``"released"``: one class. ``"multiclass"``: a sum over the channels, each an own
            class; in an image without a point of a class, this class costs only the cross-entropy
            of its highest probability towards 0, divided by the number of classes (a later version
            of the release). ``"per-class"``, not in the release: the sum over the channels of what
            ``"released"`` costs, so that blobs of classes that an image does not show cost, too.
    """

    def __init__(self, mode: Mode = "released") -> None:
        super().__init__()
        if mode not in get_args(Mode):
            known = ", ".join(map(repr, get_args(Mode)))
            raise ValueError(f"The mode of LCFCNLoss is one of {known}, not {mode!r}.")
        self.mode = mode

    def forward(self, logits: Tensor, points: Tensor, roi: Tensor | None = None) -> Tensor:
        """Compute the loss, a float32 scalar also under autocast.

        Args:
            logits: (B, C, H, W); C is 1 in mode ``"released"``.
            points: (B, H, W), 0 or the class of the point there, from 1.
            roi: (B, H, W), as for ``lcfcn_terms``.

        Raises:
            ValueError: Shapes do not match, or there is a point of no class.
        """
        batch, classes, height, width = logits.shape
        if self.mode == "released" and classes != 1:
            raise ValueError(f"Mode 'released' takes one channel of logits, not {classes}.")
        for name, array in (("points", points), ("roi", roi)):
            if array is not None and array.shape != (batch, height, width):
                raise ValueError(
                    f"{name} are {tuple(array.shape)}, but logits {tuple(logits.shape)}."
                )
        labels = _numpy(points, None)
        if not np.isin(labels, np.arange(classes + 1)).all():
            raise ValueError(f"Points must be 0 to {classes} in every pixel.")

        # Half precision can hold neither the surface nor the logarithms.
        with torch.autocast(logits.device.type, enabled=False):
            p = torch.sigmoid(logits.to(torch.promote_types(logits.dtype, torch.float32)))
            if not p.isfinite().all():
                return p.mean()  # binary_cross_entropy refuses it; training stops at bad numbers
            indices, weights, targets = self._plan(_numpy(p), labels, roi)
            chosen = p.flatten().index_select(0, indices.to(p.device))
            return F.binary_cross_entropy(
                chosen, targets.to(chosen), weights.to(chosen), reduction="sum"
            )

    def _plan(
        self, probabilities: Probabilities, labels: Array, roi: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return indices into the flat batch, weights and targets of all terms."""
        batch, classes, *size = probabilities.shape
        area = size[0] * size[1]
        regions = None if roi is None else _numpy(roi, None)
        indices, weights, targets = [], [], []
        for image in range(batch):
            for channel in range(classes):
                p = probabilities[image, channel]
                points = labels[image] == channel + 1
                if self.mode == "multiclass" and not points.any():
                    terms = [Term("absent", 1 / classes, np.array([p.argmax()]), 0)]
                else:
                    terms = lcfcn_terms(p, points, None if regions is None else regions[image])
                for term in terms:
                    indices.append(term.indices + (image * classes + channel) * area)
                    weight = term.scale / (term.indices.size * batch)
                    weights.append(np.full(term.indices.size, weight))
                    targets.append(np.full(term.indices.size, term.target))
        return (
            torch.from_numpy(np.concatenate(indices)),
            torch.from_numpy(np.concatenate(weights)),
            torch.from_numpy(np.concatenate(targets)),
        )


def _numpy(values: Array | Tensor, dtype: type[np.float32] | None = np.float32) -> Array:
    """Return an array, contiguous and without a gradient."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    return np.ascontiguousarray(values, dtype)


def _pixels_by_blob(numbers: npt.NDArray[np.int32]) -> tuple[Indices, Indices]:
    """Return the raster indices of all blobs, one after the other, and where each blob begins."""
    foreground = np.flatnonzero(numbers)
    owners = numbers.ravel()[foreground]
    if numbers.size and owners.max(initial=0) < 2**16:
        owners = owners.astype(np.uint16)  # sorted by radix
    starts = np.concatenate([[0], np.bincount(owners).cumsum()[1:]])
    return starts, foreground[np.argsort(owners, kind="stable")]
