"""B-spline bases by the recursion of Cox and de Boor."""

from __future__ import annotations

from torch import Tensor


def bspline_basis(x: Tensor, grid: Tensor, spline_order: int) -> Tensor:
    """Evaluate every B-spline basis at every input, differentiably.

    On knots t_0 < t_1 < ..., the basis of degree p that starts at t_j is

        B_{0,j}(x) = 1 on [t_j, t_{j+1}) and 0 elsewhere,
        B_{p,j}(x) = (x - t_j) / (t_{j+p} - t_j) * B_{p-1,j}(x)
                   + (t_{j+p+1} - x) / (t_{j+p+1} - t_{j+1}) * B_{p-1,j+1}(x).

    Args:
        x: (rows, in).
        grid: (in, knots), ascending; knot intervals are half-open, [left, right).
        spline_order: Degree of the pieces, 3 for cubic splines.

    Returns:
        (rows, in, knots - spline_order - 1); all zero for x outside the knots.
    """
    x = x.unsqueeze(-1)
    basis = ((x >= grid[:, :-1]) & (x < grid[:, 1:])).to(x.dtype)
    for degree in range(1, spline_order + 1):
        start, end = grid[:, : -degree - 1], grid[:, degree + 1 :]
        rising = (x - start) / (grid[:, degree:-1] - start)
        falling = (end - x) / (end - grid[:, 1:-degree])
        basis = rising * basis[..., :-1] + falling * basis[..., 1:]
    return basis
