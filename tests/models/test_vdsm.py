"""VDSM against the plain version, the golden label maps, SciPy and finite differences."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import plain_vdsm
import pytest
import torch
from torch import Tensor, nn

from models.vdsm import (
    VARIANTS,
    cell_affinity,
    pad_regions,
    pool_superpixels,
    position_distance,
    superpixel_labels,
)

Golden = dict[str, Any]


@pytest.fixture(scope="module")
def vdsm(golden: Any) -> Golden:
    return golden("vdsm.npz")  # type: ignore[no-any-return]


def _groups(vdsm: Golden) -> list[Golden]:
    return json.loads(str(vdsm["groups"]))  # type: ignore[no-any-return]


def _features(vdsm: Golden, group: Golden) -> Tensor:
    return torch.from_numpy(vdsm[f"{group['key']}_features"])


def test_distances_equal_the_golden_ones(vdsm: Golden) -> None:
    names = [name for name in vdsm if name.startswith("distance_")]
    assert len(names) == 10
    for name in names:
        _, variant, size = name.split("_")
        h, w = map(int, size.split("x"))
        assert torch.equal(position_distance(h, w, variant), torch.from_numpy(vdsm[name]))


def test_changing_a_distance_does_not_reach_the_next_call() -> None:
    position_distance(3, 3).fill_(7)
    assert position_distance(3, 3).diagonal().eq(1e6).all()


def test_released_labels_equal_the_golden_ones(vdsm: Golden) -> None:
    """Exact where this torch orders ties as the recording one did, else up to ties."""
    groups = _groups(vdsm)
    same_order = all(
        np.array_equal(
            torch.topk(
                torch.from_numpy(vdsm[f"{group['key']}_probe_density"]),
                group["h"] * group["w"] - group["min_superpixels"],
            ).indices.numpy(),
            vdsm[f"{group['key']}_probe_topk"],
        )
        for group in groups
    )
    compared = 0
    for group in groups:
        key = group["key"]
        labels = superpixel_labels(_features(vdsm, group), group["min_superpixels"], "released")
        expected = torch.from_numpy(vdsm[f"{key}_released_labels"]).long()
        if same_order:
            assert torch.equal(labels, expected), key
            assert (labels.amax(dim=(1, 2)) + 1).tolist() == vdsm[
                f"{key}_released_regions"
            ].tolist()
            compared += len(labels)
            continue
        for image in np.flatnonzero(~vdsm[f"{key}_released_tie_sensitive"]):
            assert torch.equal(
                plain_vdsm.first_appearance(labels[image]),
                plain_vdsm.first_appearance(expected[image]),
            )
            compared += 1
    assert compared > 20


@pytest.mark.parametrize("variant", ["corrected", "nearest"])
def test_partitions_equal_the_golden_ones(vdsm: Golden, variant: str) -> None:
    compared = 0
    for group in _groups(vdsm):
        expected = torch.from_numpy(vdsm[f"{group['key']}_{variant}_partition"]).long()
        labels = superpixel_labels(_features(vdsm, group), group["min_superpixels"], variant)
        kept = expected[:, 0, 0] >= 0
        assert torch.equal(labels[kept], expected[kept]), group["key"]
        compared += int(kept.sum())
    assert compared > 100


def test_pooling_and_its_gradient_equal_the_golden_ones(vdsm: Golden) -> None:
    for group in _groups(vdsm):
        key = group["key"]
        features = _features(vdsm, group)
        labels = torch.from_numpy(vdsm[f"{key}_released_labels"]).long()
        pooled = pool_superpixels(features[:2], labels[:2])
        torch.testing.assert_close(pooled, torch.from_numpy(vdsm[f"{key}_pooled"]))
        first = features[:1].clone().requires_grad_()
        incoming = torch.from_numpy(vdsm[f"{key}_grad_of_pooled"])
        (arrived,) = torch.autograd.grad(pool_superpixels(first, labels[:1]), first, incoming)
        expected = torch.from_numpy(vdsm[f"{key}_grad_of_features"])
        torch.testing.assert_close(arrived[0], expected)


def _random_features(trial: int) -> tuple[Tensor, int]:
    """Feature maps of random shape: real-valued, or 0/1 so that exact ties abound."""
    rng = np.random.default_rng(trial)
    h, w = rng.integers(1, 8, 2)
    if h * w == 1:
        h = 2
    if trial % 2:
        values = rng.standard_normal((3, 24, h, w)).clip(0)
    else:
        values = rng.integers(0, 2, (3, 6, h, w))
    features = torch.from_numpy(values).float()
    return features, int(rng.integers(1, h * w + 1))


@pytest.mark.parametrize("variant", VARIANTS)
def test_labels_equal_the_plain_version(variant: str) -> None:
    for trial in range(60):
        features, min_superpixels = _random_features(trial)
        labels = superpixel_labels(features, min_superpixels, variant)
        plain = [plain_vdsm.plain_labels(image, min_superpixels, variant) for image in features]
        assert torch.equal(labels, torch.stack(plain)), (trial, features.shape, min_superpixels)


class _Labels(nn.Module):
    def __init__(self, variant: str) -> None:
        super().__init__()
        self.variant = variant

    def forward(self, features: Tensor) -> Tensor:
        return superpixel_labels(features, 4, self.variant)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("variant", VARIANTS)
def test_an_exported_graph_finds_the_same_labels(variant: str, strict: bool) -> None:
    features = torch.randn(2, 8, 4, 5, generator=torch.Generator().manual_seed(0))
    exported = torch.export.export(_Labels(variant), (features,), strict=strict).module()
    labels = superpixel_labels(features, 4, variant)
    assert torch.equal(exported(features), labels)


@pytest.mark.parametrize("variant", VARIANTS)
def test_labels_have_no_gaps_and_enough_regions(variant: str) -> None:
    for trial in range(40):
        features, min_superpixels = _random_features(trial)
        for image in superpixel_labels(features, min_superpixels, variant):
            count = int(image.max()) + 1
            assert sorted(set(image.flatten().tolist())) == list(range(count))
            if variant != "released":
                assert count >= min_superpixels


def test_nearest_finds_planted_segments() -> None:
    """Four quadrants with orthogonal features come back as they were planted."""
    planted = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]])
    features = torch.nn.functional.one_hot(planted).permute(2, 0, 1).float()
    noise = torch.rand(40, 4, 4, generator=torch.Generator().manual_seed(0)) * 0.01
    features = torch.cat([features.repeat_interleave(10, 0) + noise]).unsqueeze(0)
    labels = superpixel_labels(features, 4, "nearest")[0]
    for label in range(int(labels.max()) + 1):
        assert len(set(planted[labels == label].tolist())) == 1


def test_as_many_superpixels_as_cells_leaves_every_cell_alone() -> None:
    labels = superpixel_labels(torch.rand(2, 5, 3, 4), 12)
    assert torch.equal(labels, torch.arange(12).view(1, 3, 4).expand(2, 3, 4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_with_constant_channels_merge(dtype: torch.dtype) -> None:
    """The released code turns these into singletons under autocast: 0/0 in half precision."""
    features = torch.rand(2, 16, 4, 4, generator=torch.Generator().manual_seed(1)).to(dtype)
    features[:, 3] = 0.5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        labels = superpixel_labels(features, 6, "corrected")
    assert torch.equal(labels, superpixel_labels(features.float(), 6, "corrected"))
    assert (labels.amax(dim=(1, 2)) < 15).all()


@pytest.mark.parametrize("min_superpixels", [0, 17, -1])
def test_impossible_region_counts_are_refused(min_superpixels: int) -> None:
    with pytest.raises(ValueError, match="grid of 4 x 4 cells allows only 1 to 16"):
        superpixel_labels(torch.rand(1, 3, 4, 4), min_superpixels)


def test_unknown_variants_are_refused() -> None:
    with pytest.raises(ValueError, match="released, corrected, nearest"):
        superpixel_labels(torch.rand(1, 3, 4, 4), 6, "newest")


def test_pooling_equals_the_plain_version_and_pads_with_zeros() -> None:
    features, _ = _random_features(7)
    labels = superpixel_labels(features, 2, "nearest")
    plain = plain_vdsm.plain_pool(features, labels)
    torch.testing.assert_close(pool_superpixels(features, labels), plain)
    means, sizes = pad_regions(features, labels)
    assert sizes.sum(dim=1).tolist() == [features[0, 0].numel()] * len(features)
    assert means[sizes == 0].eq(0).all()


def test_pooling_of_any_memory_layout_and_precision_reaches_the_features() -> None:
    features = _random_features(9)[0]
    labels = superpixel_labels(features, 4, "nearest")
    other = features.to(memory_format=torch.channels_last)
    assert torch.equal(superpixel_labels(other, 4, "nearest"), labels)
    torch.testing.assert_close(
        pool_superpixels(other, labels), plain_vdsm.plain_pool(features, labels)
    )
    half = features.half().requires_grad_()
    pool_superpixels(half, labels).sum().backward()  # type: ignore[no-untyped-call]
    assert half.grad is not None
    assert half.grad.dtype == torch.float16


def test_affinity_is_not_a_number_only_for_the_image_that_holds_one() -> None:
    cells = torch.rand(2, 20, 18, generator=torch.Generator().manual_seed(0))
    expected = cell_affinity(cells, torch.zeros(18, 18))
    cells[1, 4, 17] = torch.nan
    affinity = cell_affinity(cells, torch.zeros(18, 18))
    torch.testing.assert_close(affinity[0], expected[0])
    assert affinity[1].isnan().all()


def test_pooling_gradient_against_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(2, 3, 2, 3, dtype=torch.float64, generator=generator).requires_grad_()
    labels = torch.tensor([[[0, 1, 1], [2, 0, 1]], [[0, 0, 0], [0, 0, 0]]])
    assert torch.autograd.gradcheck(lambda f: pool_superpixels(f, labels), (features,))


def test_labels_carry_no_gradient() -> None:
    features = torch.rand(1, 3, 4, 4, requires_grad=True)
    assert not superpixel_labels(features, 6).requires_grad


@pytest.mark.parametrize("label", [-1, 4])
def test_labels_that_are_no_cells_are_refused(label: int) -> None:
    labels = torch.tensor([[[0, 1], [1, label]]])
    with pytest.raises(ValueError, match=r"not in 0\.\.3"):
        pool_superpixels(torch.rand(1, 3, 2, 2), labels)


def test_labels_may_be_of_any_integer_type() -> None:
    features = torch.rand(1, 3, 2, 2)
    labels = torch.tensor([[[0, 1], [1, 0]]])
    expected = pool_superpixels(features, labels)
    assert torch.equal(pool_superpixels(features, labels.to(torch.uint8)), expected)


@pytest.mark.parametrize(
    "labels",
    [
        torch.zeros(2, 7, 7, dtype=torch.long),
        torch.zeros(3, 1, 1, dtype=torch.long),
        torch.zeros(2, 4, 4),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: Tensor) -> None:
    with pytest.raises(ValueError, match="do not fit features of"):
        pool_superpixels(torch.rand(2, 3, 4, 4), labels)
