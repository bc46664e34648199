"""Training on classes of very different frequency: weights for the loss, weights for the images.

Both start from n_k, the number of training images that show class k.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# At most this many times the weight of the most frequent class: a class of three images among
# thousands would else drown all others, its negatives included.
HIGHEST_RATIO = 10.0


def count_classes(indices: Sequence[Sequence[int]], num_classes: int) -> npt.NDArray[np.int64]:
    """Count the images of every class, (K,), from the class indices of each image."""
    flat = np.array(list(itertools.chain.from_iterable(indices)), np.int64)
    return np.bincount(flat, minlength=num_classes)


def inverse_frequency_weights(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Compute the weights (K,) of the classes in the loss, with a mean of 1, from n_k (K,).

    w_k is proportional to 1 / n_k, and the weights add up to K so that the loss keeps its scale, as
    in Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019 (arXiv
    1901.05555), whose weights become these for beta -> 1. Two additions of ours: no weight exceeds
    ``HIGHEST_RATIO`` times that of the most frequent class, and a class without images, of which
    nothing can be learnt, weighs as much as the most frequent one. A weight multiplies all terms of
    its class, positive and negative, so that what the class predicts stays a probability.
    """
    ratios = counts.max() / np.maximum(counts, 1)
    weights = np.where(counts == 0, 1.0, np.minimum(ratios, HIGHEST_RATIO))
    normalized: npt.NDArray[np.float64] = weights / weights.mean()
    return normalized


def repeat_factors(indices: Sequence[Sequence[int]], num_classes: int) -> npt.NDArray[np.float64]:
    """Compute how often images are to be seen, in relation to each other: (N,), at least 1.

    Repeat-factor sampling of Gupta et al., "LVIS", CVPR 2019 (arXiv 1908.03195), made for images
    with several classes: r(k) = max(1, sqrt(t / f_k)) with f_k the share of the images that show
    class k, and r(image) is the highest r(k) of its classes. There, t is 0.001 of 100,000 images;
    in a set of some thousand no class is that rare and nothing would happen. So here t is the
    highest f_k, which makes r(k) = sqrt(n_max / n_k): square-root sampling (Mahajan et al., ECCV
    2018, arXiv 1805.00932), the usual compromise; drawing the classes evenly would show three
    images as often as three thousand, and learn them by heart.

    Args:
        indices: The classes of each of N images; an image without one has a factor of 1.
        num_classes: K.
    """
    counts = count_classes(indices, num_classes)
    factors = np.sqrt(counts.max() / np.maximum(counts, 1)).tolist()
    return np.array([max((factors[k] for k in classes), default=1.0) for classes in indices])
