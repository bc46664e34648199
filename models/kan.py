"""KAN layer and WIC-Classifier: every pair of an input and an output has a spline of its own.

A Kolmogorov-Arnold layer (Liu et al., arXiv 2404.19756) in the form of efficient-kan: the
splines of one input share their B-spline bases, so a layer is a basis expansion followed by one
matrix product. State-dict names are those of efficient-kan, so its weights load here unchanged.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from models.bspline import bspline_basis
from models.kan_function import kan_linear

UNIFORM_SHARE = 0.02  # of even spacing in an updated grid; the rest are quantiles
GRID_MARGIN = 0.01  # how far an updated grid reaches beyond the inputs


class KANLinear(nn.Module):
    """KAN layer: y = base_weight . SiLU(x) + (spline_weight * spline_scaler) . bases(x), no bias.

    Computed in float32 also under autocast: the bases are steep, and half precision would round
    neighboring inputs to the same spline value. Training works on blocks of channels
    (``models.kan_function``), so it never copies all spline weights and keeps no bases.

    Args:
        in_features: Input channels.
        out_features: Outputs (classes).
        grid_size: Intervals of the spline grid inside ``grid_range``.
        spline_order: Degree of the splines.
        grid_range: Ends of the grid; ``spline_order`` more knots follow on either side.
        scale_noise: Size of the random splines at the start.

    Raises:
        ValueError: For an impossible grid.
    """

    grid: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        grid_size: int = 5,
        spline_order: int = 3,
        grid_range: tuple[float, float] = (-1.0, 1.0),
        scale_noise: float = 0.1,
    ) -> None:
        super().__init__()
        if grid_size < 1 or spline_order < 0:
            raise ValueError(
                f"A KAN layer needs grid_size >= 1 and spline_order >= 0, not {grid_size} and "
                f"{spline_order}."
            )
        low, high = grid_range
        if not low < high:
            raise ValueError(f"The grid range {low} to {high} is empty.")
        self.in_features = in_features
        self.out_features = out_features
        self.grid_size = grid_size
        self.spline_order = spline_order
        self.scale_noise = scale_noise
        # Float32 arithmetic in this order gives the knots of efficient-kan to the last bit.
        step = (high - low) / grid_size
        knots = torch.arange(-spline_order, grid_size + spline_order + 1) * step + low
        self.register_buffer("grid", knots.expand(in_features, -1).contiguous())
        bases = grid_size + spline_order
        self.base_weight = nn.Parameter(torch.empty(out_features, in_features))
        self.spline_weight = nn.Parameter(torch.empty(out_features, in_features, bases))
        self.spline_scaler = nn.Parameter(torch.empty(out_features, in_features))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw base weights and scalers (Kaiming-uniform), and splines through small noise."""
        nn.init.kaiming_uniform_(self.base_weight, a=math.sqrt(5))
        nn.init.kaiming_uniform_(self.spline_scaler, a=math.sqrt(5))
        # All inputs share the grid here, so one pseudo-inverse fits every spline (least squares of
        # least norm: there are more bases than inner knots).
        order = self.spline_order
        knots = self.grid[0, order : self.grid.shape[1] - order]
        at_knots = bspline_basis(knots[:, None], self.grid[:1], order)[:, 0]
        noise = torch.rand(self.out_features, self.in_features, len(knots)) - 0.5
        noise = noise * (self.scale_noise / self.grid_size)
        self.spline_weight.copy_(noise @ torch.linalg.pinv(at_knots).T)

    def forward(self, x: Tensor) -> Tensor:
        """Map (rows, in) to float32 (rows, out)."""
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        weights = (self.base_weight, self.spline_weight, self.spline_scaler)
        return kan_linear(x, self.grid, *weights, self.spline_order)

    @torch.no_grad()
    def outside_grid(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Count the inputs (rows, in) that the splines see only in part, and not at all.

        Returns:
            Two counts of each row, (rows,): inputs beyond the inner grid (where bases are missing),
            and inputs beyond all knots (where only the SiLU branch answers).
        """
        order = self.spline_order
        inner = (x < self.grid[:, order]) | (x >= self.grid[:, self.grid.shape[1] - order - 1])
        outer = (x < self.grid[:, 0]) | (x >= self.grid[:, -1])
        return inner.sum(dim=1), outer.sum(dim=1)

    @torch.no_grad()
    def update_grid(self, x: Tensor) -> None:
        """Move the knots to where the inputs are; the splines stay the same as far as possible.

        The inner knots become quantiles of each input channel, mixed with evenly spaced ones;
        the spline weights become the least-squares fit of the old splines at the inputs.

        Args:
            x: Inputs (rows, in), at least as many rows as there are bases.

        Raises:
            ValueError: If an input is not finite or there are too few rows; nothing has changed.
        """
        bases = self.grid_size + self.spline_order
        if not torch.isfinite(x).all():
            raise ValueError("The grid cannot follow inputs that are not finite.")
        if len(x) < bases:
            raise ValueError(
                f"The grid update needs at least {bases} rows of inputs, not {len(x)}."
            )
        x = x.float()
        ordered = x.sort(dim=0).values
        low, high = ordered[0] - GRID_MARGIN, ordered[-1] + GRID_MARGIN
        steps = torch.linspace(0, 1, self.grid_size + 1, device=x.device)[:, None]
        uniform = low + steps * (high - low)
        positions = (steps[:, 0] * (len(x) - 1)).round().long()
        quantiles = ordered[positions]
        quantiles[0], quantiles[-1] = low, high
        inner = UNIFORM_SHARE * uniform + (1 - UNIFORM_SHARE) * quantiles
        width = (high - low) / self.grid_size
        beyond = torch.arange(1, self.spline_order + 1, device=x.device)[:, None] * width
        grid = torch.cat([inner[0] - beyond.flip(0), inner, inner[-1] + beyond]).T.contiguous()

        old = bspline_basis(x, self.grid, self.spline_order).transpose(0, 1)
        new = bspline_basis(x, grid, self.spline_order).transpose(0, 1)
        # One small system a channel turns old weights into new ones, for all outputs at once.
        transfer = torch.linalg.pinv(new.double(), rtol=1e-6) @ old.double()
        self.spline_weight.copy_(torch.einsum("inb,oib->oin", transfer.float(), self.spline_weight))
        self.grid.copy_(grid)


class WICClassifier(nn.Module):
    """WIC-Classifier (weak inter-class correlation): a stack of KAN layers, one in the paper.

    Args:
        widths: Channels before, between and after the layers: (channels, classes) for one layer.
        **kan_settings: Handed on to every ``KANLinear``.
    """

    def __init__(self, widths: tuple[int, ...], **kan_settings: object) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            KANLinear(fan_in, fan_out, **kan_settings)  # type: ignore[arg-type]
            for fan_in, fan_out in pairwise(widths)
        )

    def update_grid(self, x: Tensor) -> None:
        """Fit the grid of every layer to what it sees of the inputs x (rows, channels).

        Raises:
            ValueError: See ``KANLinear.update_grid``.
        """
        for layer in self.layers:
            assert isinstance(layer, KANLinear)
            layer.update_grid(x)
            x = layer(x)

    def forward(self, x: Tensor) -> Tensor:
        """Map pooled features (rows, channels) to logits (rows, classes)."""
        for layer in self.layers:
            x = layer(x)
        return x
