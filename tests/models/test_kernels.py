"""The compiled loops against PyTorch's operators, and how they are built."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from plain_kan import plain_kan_linear
from plain_vdsm import plain_labels, plain_pool
from torch import Tensor

from models import kernels
from models.kan_function import kan_linear
from models.kernels import build
from models.vdsm import (
    VARIANTS,
    cast_votes,
    cell_affinity,
    edge_votes,
    pool_superpixels,
    position_distance,
    superpixel_labels,
)

# Not by ``kernels.reason_without``: where loops should be, a test is to fail without them.
pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("gcc") is None or "VOLUNET_KERNELS" in os.environ,
    reason="There is no GCC, or the loops are turned off.",
)


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder for the libraries; what is loaded already is forgotten for the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    build.load.cache_clear()
    build.reason_without.cache_clear()
    yield tmp_path / "volunet"
    build.load.cache_clear()
    build.reason_without.cache_clear()


def _maps(batch: int, channels: int, h: int, w: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(batch + channels + h * w)
    return torch.randn(batch, channels, h, w, dtype=dtype, generator=generator).relu_()


def _pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "usable", lambda _tensor: False)


SHAPES = [(1, 1, 1, 1), (2, 3, 1, 5), (3, 70, 4, 4), (2, 130, 7, 7), (1, 64, 16, 16), (2, 9, 3, 31)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_affinity_equals_pytorchs_and_is_symmetric(
    shape: tuple[int, int, int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = _maps(*shape, dtype=dtype).flatten(2)
    closeness = (1 - position_distance(*shape[2:], "corrected")).to(dtype)
    ours = cell_affinity(cells, closeness)
    assert torch.equal(ours, ours.transpose(1, 2))
    _pytorch(monkeypatch)
    torch.testing.assert_close(ours, cell_affinity(cells, closeness))


def test_affinity_of_another_precision_and_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = _maps(2, 9, 3, 4, torch.float64).flatten(2).transpose(1, 2).contiguous()
    closeness = torch.rand(12, 12).T
    ours = cell_affinity(cells.transpose(1, 2), closeness)
    votes = cast_votes(ours.transpose(1, 2), closeness, "corrected")
    _pytorch(monkeypatch)
    torch.testing.assert_close(ours, cell_affinity(cells.transpose(1, 2), closeness))
    expected = cast_votes(ours.transpose(1, 2), closeness.double(), "corrected")
    for mine, theirs in zip(votes, expected, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_a_number_that_is_none_spreads_over_its_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = _maps(2, 20, 3, 6).flatten(2)
    cells[1, 4, 17] = torch.nan
    closeness = torch.zeros(18, 18)
    ours = cell_affinity(cells, closeness)
    _pytorch(monkeypatch)
    expected = cell_affinity(cells, closeness)
    assert expected[1].isnan().all()
    torch.testing.assert_close(ours, expected, equal_nan=True)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("levels", [3, 1000])
def test_votes_equal_pytorchs(variant: str, levels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of few levels many are equal; of ``released`` the loops then leave the order to PyTorch."""
    generator = torch.Generator().manual_seed(levels)
    affinity = torch.randint(0, levels, (5, 12, 12), generator=generator).float()
    votes = edge_votes(position_distance(3, 4, variant))
    alone = kernels.vote(affinity, votes, own=variant == "nearest", strict=variant == "released")
    assert (alone is None) == (variant == "released" and levels == 3)
    edges, density = cast_votes(affinity, votes, variant)
    _pytorch(monkeypatch)
    expected_edges, expected_density = cast_votes(affinity, votes, variant)
    assert torch.equal(edges, expected_edges)
    assert torch.equal(density, expected_density)


def test_votes_on_what_is_no_number_are_left_to_pytorch() -> None:
    affinity = torch.rand(1, 4, 4)
    affinity[0, 2, 1] = torch.nan
    assert kernels.vote(affinity, torch.ones(4, 4), own=False, strict=False) is None


@pytest.mark.parametrize("shape", SHAPES)
def test_pooling_and_its_gradient_equal_pytorchs_to_the_last_bit(
    shape: tuple[int, int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    features = _maps(*shape).requires_grad_()
    cells = shape[2] * shape[3]
    labels = torch.randint(0, cells, (shape[0], cells)).sort(dim=1).values
    labels = torch.stack([row.unique(return_inverse=True)[1] for row in labels])
    labels = labels[:, torch.randperm(cells)].view(shape[0], *shape[2:])
    results = []
    for way in ("compiled", "pytorch"):
        if way == "pytorch":
            _pytorch(monkeypatch)
        means = pool_superpixels(features, labels)
        gradient = torch.linspace(-1, 1, means.numel()).view(means.shape)
        results.append((means, *torch.autograd.grad(means, features, gradient)))
    for ours, theirs in zip(*results, strict=True):
        assert torch.equal(ours, theirs)


def test_pooling_of_any_memory_layout_reaches_the_features() -> None:
    features = _maps(2, 33, 5, 3)
    labels = superpixel_labels(features, 4, "nearest")
    expected = plain_pool(features, labels)
    other = features.to(memory_format=torch.channels_last)
    assert torch.equal(superpixel_labels(other, 4, "nearest"), labels)
    torch.testing.assert_close(pool_superpixels(other, labels), expected)
    half = features.half().requires_grad_()
    pool_superpixels(half, labels).sum().backward()  # type: ignore[no-untyped-call]
    assert half.grad is not None
    assert half.grad.dtype == torch.float16


def test_weights_of_a_single_input_in_any_layout() -> None:
    """A dimension of size 1 may have any stride."""
    torch.manual_seed(0)
    x = torch.randn(6, 1)
    grid = torch.arange(12).float().mul(0.4).sub(2.2)[None]
    base, scaler, spline = torch.randn(5, 1), torch.randn(5, 1), torch.randn(1, 5, 8)
    found = kan_linear(x, grid, base, spline.transpose(0, 1), scaler, 3)
    torch.testing.assert_close(
        found, plain_kan_linear(x, grid, base, spline.transpose(0, 1), scaler, 3)
    )


def test_numbers_of_another_type_are_refused() -> None:
    with pytest.raises(TypeError, match=r"affinity for torch.float32 got a tensor of .*float64"):
        kernels.affinity(torch.rand(1, 3, 4), torch.rand(4, 4).double())


def _assert_right() -> None:
    """Labels, means and a KAN layer with its gradients against the plain versions."""
    features = _maps(3, 90, 5, 5)
    for variant in VARIANTS:
        labels = superpixel_labels(features, 6, variant)
        assert torch.equal(labels, torch.stack([plain_labels(f, 6, variant) for f in features]))
        torch.testing.assert_close(pool_superpixels(features, labels), plain_pool(features, labels))
    torch.manual_seed(0)
    x = torch.randn(70, 20, dtype=torch.float64).requires_grad_()
    grid = (torch.arange(12, dtype=torch.float64) * 0.4 - 2.2).expand(20, 12).contiguous()
    shapes = ((7, 20), (7, 20, 8), (7, 20))
    base, spline, scaler = (torch.randn(s).double().requires_grad_() for s in shapes)
    weights = (base, spline, scaler)
    found = [layer(x, grid, *weights, 3) for layer in (kan_linear, plain_kan_linear)]
    torch.testing.assert_close(*found)
    slopes = [torch.autograd.grad(y.sin().sum(), [x, *weights]) for y in found]
    for ours, theirs in zip(*slopes, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("flags", [(), ("-mno-avx512f",), ("-march=x86-64",), ("-O1",)])
def test_the_loops_are_right_for_other_processors_too(
    flags: tuple[str, ...], fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if platform.machine() != "x86_64" and flags not in ((), ("-O1",)):
        pytest.skip("These flags are for another processor.")
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, *flags))
    assert kernels.reason_without(torch.float32) is None
    _assert_right()
    assert len(list(fresh.glob("*.so"))) == 2  # for single and double precision


@pytest.mark.parametrize("length", [0, 100, 8192, -5000, -1])
def test_a_damaged_library_is_built_again(
    length: int, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system would load a file that lacks its end, and kill the process on using it."""
    build.load(torch.float32)
    (library,) = fresh.iterdir()
    other = fresh / "other" / "volunet" / library.name
    other.parent.mkdir(parents=True)
    other.write_bytes(library.read_bytes()[:length])
    monkeypatch.setenv("XDG_CACHE_HOME", str(other.parent.parent))
    build.load.cache_clear()
    assert isinstance(build.load(torch.float32), ctypes.CDLL)
    assert other.read_bytes() == library.read_bytes()


def test_a_folder_that_others_may_write_to_is_not_used(fresh: Path) -> None:
    fresh.mkdir()
    fresh.chmod(0o777)
    build.load(torch.float32)
    assert not list(fresh.iterdir())


def test_a_library_that_cannot_be_kept_is_used_all_the_same(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_source: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(Path, "replace", full)
    assert isinstance(build.load(torch.float32), ctypes.CDLL)
    assert not list(fresh.iterdir())


def test_without_a_folder_the_library_is_built_for_the_process(fresh: Path) -> None:
    fresh.write_text("in the way")
    assert isinstance(build.load(torch.float32), ctypes.CDLL)
    assert fresh.read_text() == "in the way"


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"VOLUNET_KERNELS": "0"}, "VOLUNET_KERNELS is 0."),
        ({"PATH": ""}, "There is no C compiler 'gcc'."),
        ({"CC": "no-such-compiler"}, "There is no C compiler 'no-such-compiler'."),
        ({"CC": "gcc '"}, "The variable CC is no command: No closing quotation."),
        ({"CC": "false"}, "fails: exit status 1."),
        ({"CC": "gcc -include no-such-header"}, "no-such-header: No such file or directory"),
    ],
)
def test_without_a_compiler_pytorch_does_the_work(
    variables: dict[str, str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    told = kernels.reason_without(torch.float32)
    assert told is not None
    assert reason in told
    assert not kernels.usable(torch.ones(1))
    _assert_right()


def test_other_numbers_have_no_loops() -> None:
    assert kernels.reason_without(torch.float16) == "The compiled loops are not for torch.float16."
    assert not kernels.usable(torch.ones(1, dtype=torch.float16))
    assert not kernels.usable(torch.ones(1, device="meta"))
