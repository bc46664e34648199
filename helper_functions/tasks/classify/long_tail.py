"""Training on classes of very different frequency: weights for the loss, weights for the pictures.

Both start from n_k, the number of training pictures that show class k.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# At most this many times the weight of the most frequent class: a class of three pictures among
# thousands would else drown all others, its negatives included.
HIGHEST_RATIO = 10.0


def count_classes(indices: Sequence[Sequence[int]], num_classes: int) -> npt.NDArray[np.int64]:
    """Pictures of every class, (K,).

    Args:
        indices: The classes of each picture.
        num_classes: K.
    """
    flat = [index for classes in indices for index in classes]
    return np.bincount(np.asarray(flat, np.int64), minlength=num_classes)


def inverse_frequency_weights(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Weights of the classes in the loss, with a mean of 1.

    w_k is proportional to 1 / n_k, and the weights add up to K so that the loss keeps its scale, as
    in Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019 (arXiv
    1901.05555), whose weights become these for beta -> 1. Two additions of ours: no weight exceeds
    ``HIGHEST_RATIO`` times that of the most frequent class, and a class without pictures, of which
    nothing can be learnt, weighs as much as the most frequent one.

    A weight multiplies all terms of its class, positive and negative: what the class learns to
    predict stays a probability, and the classes' shares of the gradient change.

    Args:
        counts: n_k, (K,).

    Returns:
        (K,).
    """
    ratios = counts.max() / np.maximum(counts, 1)
    weights = np.where(counts == 0, 1.0, np.minimum(ratios, HIGHEST_RATIO))
    normalised: npt.NDArray[np.float64] = weights / weights.mean()
    return normalised


def repeat_factors(indices: Sequence[Sequence[int]], num_classes: int) -> npt.NDArray[np.float64]:
    """How often pictures are to be seen, in relation to each other.

    Repeat-factor sampling of Gupta et al., "LVIS", CVPR 2019 (arXiv 1908.03195), made for pictures
    with several classes: r(k) = max(1, sqrt(t / f_k)) with f_k the share of the pictures that show
    class k, and r(picture) is the highest r(k) of its classes. There, t is 0.001 of 100,000
    pictures; in a set of some thousand no class is that rare and nothing would happen. So here t is
    the highest f_k, which makes r(k) = sqrt(n_max / n_k): square-root sampling (Mahajan et al.,
    ECCV 2018, arXiv 1805.00932). Drawing the classes evenly would show three pictures as often as
    three thousand, and learn them by heart; the square root is the usual compromise.

    Args:
        indices: The classes of each of N pictures; a picture without one has a factor of 1.
        num_classes: K.

    Returns:
        (N,), at least 1.
    """
    counts = count_classes(indices, num_classes)
    of_class = np.sqrt(counts.max() / np.maximum(counts, 1))
    return np.array(
        [max((float(of_class[k]) for k in classes), default=1.0) for classes in indices]
    )
