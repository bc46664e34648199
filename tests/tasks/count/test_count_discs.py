"""What the split terms are worth: discs that touch, counted with and without them."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

import loss_functions.lcfcn
from loss_functions import LCFCNLoss
from loss_functions.lcfcn import blobs, lcfcn_terms
from models import create_network

SIZE, RADIUS = 56, 4


def draw_discs(rng: random.Random) -> tuple[Tensor, Tensor]:
    """Return an image (3, H, W) of 0 to 12 discs, some of which touch, and its points (H, W)."""
    image = Image.new("L", (SIZE, SIZE), 70)
    draw, centers = ImageDraw.Draw(image), list[tuple[int, int]]()
    for _ in range(rng.randrange(13)):
        for _attempt in range(100):
            x, y = rng.randrange(5, SIZE - 5), rng.randrange(5, SIZE - 5)
            if centers and rng.random() < 0.5:  # beside another one
                angle, (x, y) = rng.uniform(0, 2 * math.pi), rng.choice(centers)
                x, y = (round(x + 2 * RADIUS * math.cos(angle)), round(y + 8 * math.sin(angle)))
            inside = min(x, y) > 4 and max(x, y) < SIZE - 5
            if inside and all(math.dist((x, y), other) >= 2 * RADIUS - 1 for other in centers):
                centers.append((x, y))
                break
    points = torch.zeros(SIZE, SIZE, dtype=torch.long)
    for x, y in centers:
        draw.ellipse((x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS), 200)
        points[y, x] = 1
    noise = np.random.default_rng(rng.randrange(2**32)).normal(0, 6, (SIZE, SIZE))
    values = (np.asarray(image, np.float32) + noise.astype(np.float32)) / 255
    return torch.from_numpy(values).expand(3, -1, -1), points


def mean_error(epochs: int = 8) -> float:
    """Train on 100 images and return the MAE on 50 others."""
    rng = random.Random(0)
    images = [draw_discs(rng) for _ in range(150)]
    torch.manual_seed(0)
    network, loss = create_network("dilated", 1), LCFCNLoss()
    adam = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(epochs):
        for image, points in rng.sample(images[:100], 100):
            adam.zero_grad()
            loss(network(image[None]), points[None]).backward()
            adam.step()
    errors = []
    with torch.no_grad():
        for image, points in images[100:]:
            probabilities = network.eval()(image[None])[0, 0].sigmoid().numpy()
            errors.append(abs(int(blobs(probabilities).max()) - int(points.sum())))
    return sum(errors) / len(errors)


@pytest.mark.slow
def test_split_terms_tell_touching_discs_apart(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = mean_error()
    with monkeypatch.context() as patch:
        patch.setattr(
            loss_functions.lcfcn,
            "lcfcn_terms",
            lambda *args: [term for term in lcfcn_terms(*args) if "split" not in term.kind],
        )
        without = mean_error()
    with capsys.disabled():
        print(f"\nMAE on discs: {whole:.2f}, without the split terms {without:.2f}")
    assert whole <= 0.3
    assert without > 2 * whole + 0.3
