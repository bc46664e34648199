"""FCN8-VGG16: shapes and logits of the released code, and weights of VGG16.

Its 134 million weights take 540 MB, so shapes are checked without memory (``torch.device("meta")``)
and files are made of tensors that repeat one number.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_fill import noise

from models import create_network
from models.fcn8 import FCN8VGG16, bilinear_kernel
from models.legacy import fcn8_from_vgg16

Golden = Callable[[str], Any]
FILE = "count/fcn8.npz"


def _without_memory(num_outputs: int = 1) -> torch.nn.Module:
    with torch.device("meta"):
        return create_network("fcn8_vgg16", num_outputs)


def _text(array: Any) -> Any:
    return json.loads(str(array))


def _repeated(layout: list[Any]) -> dict[str, torch.Tensor]:
    """Tensors of the given shapes, each of one number: files of them are small."""
    return {
        name: torch.tensor((i + 1) / 2**14).expand(*shape) for i, (name, shape) in enumerate(layout)
    }


def test_names_and_shapes_are_those_of_released_checkpoints(golden: Golden) -> None:
    network = _without_memory()
    layout = [[name, list(value.shape)] for name, value in network.state_dict().items()]
    assert layout == _text(golden(FILE)["layout"])
    assert sum(value.numel() for value in network.parameters()) == golden(FILE)["parameters"]


@pytest.mark.parametrize("case", [0, 1])
def test_maps_have_the_shapes_of_the_released_code(golden: Golden, case: int) -> None:
    numbers, network = golden(FILE), _without_memory()
    seen: dict[str, list[int]] = {}
    shapes = _text(numbers[f"shapes{case}"])
    for name in shapes:
        network.get_submodule(name).register_forward_hook(
            lambda _m, _in, out, name=name: seen.update({name: list(out.shape)})
        )
    height, width = numbers[f"size{case}"].tolist()
    output = network(torch.zeros(1, 3, height, width, device="meta"))
    assert seen == shapes
    assert output.shape == numbers[f"output{case}"].shape


def test_images_of_any_size_are_scored_at_every_pixel() -> None:
    network = _without_memory(2)
    for height, width in [(1, 1), (33, 57), *((n, 66 - n) for n in range(2, 40, 3)), (1, 500)]:
        output = network(torch.zeros(1, 3, height, width, device="meta"))
        assert output.shape == (1, 2, height, width)


def test_enlargements_start_bilinear(golden: Golden) -> None:
    numbers = golden(FILE)
    np.testing.assert_array_equal(bilinear_kernel(1, 4)[0, 0], numbers["bilinear4"])
    np.testing.assert_array_equal(bilinear_kernel(1, 16)[0, 0], numbers["bilinear16"])
    np.testing.assert_array_equal(bilinear_kernel(2, 3), numbers["bilinear3_two"])


def test_vgg16_becomes_the_hidden_layers_and_logits_start_at_zero(
    golden: Golden, tmp_path: Path
) -> None:
    numbers = golden(FILE)
    vgg16 = _repeated(_text(numbers["vgg16_layout"]))
    vgg16["classifier.0.weight"] = torch.arange(25088.0).expand(4096, -1)
    del vgg16["features.2.bias"]
    torch.save(vgg16, tmp_path / "vgg16.pth")
    with pytest.warns(UserWarning, match=r"lacks 1 of .* initial values: conv1_2\.bias\.$"):
        network = create_network("fcn8_vgg16", 1, model_path=tmp_path / "vgg16.pth")
    state = network.state_dict()
    hidden = [name for name, _ in _text(numbers["layout"])][: 2 * 15]
    for name, source in zip(hidden, _text(numbers["vgg16_layout"]), strict=False):
        if name not in ("fc6.weight", "conv1_2.bias"):
            expected = vgg16[source[0]].flatten()[0]
            assert (state[name].flatten()[:: 4096 + 1] == expected).all(), name
    # Row, column and channel of the 7 x 7 map in VGG16's order: channel first.
    assert state["fc6.weight"][9, 500, 3, 4] == 500 * 49 + 3 * 7 + 4
    assert not state["conv1_2.bias"].any()
    with torch.no_grad():
        output = network.eval()(torch.ones(1, 3, 2, 3))
    assert output.shape == (1, 1, 2, 3)
    assert not output.any()


def test_released_checkpoints_load(golden: Golden, tmp_path: Path) -> None:
    tensors = _repeated(_text(golden(FILE)["layout"]))
    torch.save({"model": tensors, "opt": {"state": {}}}, tmp_path / "model.pth")
    network = create_network("fcn8_vgg16", 1, model_path=tmp_path / "model.pth")
    for name, value in network.state_dict().items():
        assert value.flatten()[0] == value.flatten()[-1] == tensors[name].flatten()[0], name


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    torch.save({"features.0.weight": torch.zeros(96, 3, 11, 11)}, tmp_path / "alexnet.pth")
    with pytest.raises(ValueError, match=r"None of the 1 tensors in .*alexnet\.pth fits"):
        create_network("fcn8_vgg16", 1, model_path=tmp_path / "alexnet.pth")


@pytest.mark.slow
def test_logits_equal_those_of_the_released_code(golden: Golden) -> None:
    numbers = golden(FILE)
    salt = int(numbers["salt"])

    def fill(name: str, shape: tuple[int, ...]) -> torch.Tensor:
        scale = np.sqrt(6 / np.prod(shape[1:])) if len(shape) > 1 else 0.05
        return torch.from_numpy((noise(name, shape, salt) * scale).astype(np.float32))

    layout = _text(numbers["vgg16_layout"])
    network = FCN8VGG16(1, initialize=False).eval()
    network.load_state_dict(
        fcn8_from_vgg16({name: fill(name, tuple(shape)) for name, shape in layout}), strict=False
    )
    for name in ("scoring_layer", "score_pool4", "score_pool3"):
        for key, factor in ((f"{name}.weight", 1), (f"{name}.bias", 20)):
            parameter = network.get_parameter(key)
            parameter.data.copy_(fill(key, tuple(parameter.shape)) * factor)
    scores: list[torch.Tensor] = []
    network.scoring_layer.register_forward_hook(lambda _m, _in, out: scores.append(out))
    for case in (0, 1):
        image = noise("picture", (1, 3, *numbers[f"size{case}"].tolist()), salt + case) * 2
        with torch.no_grad():
            output = network(torch.from_numpy(image.astype(np.float32)))
        for found, expected in ((output, f"output{case}"), (scores[case], f"score{case}")):
            tolerance = 2e-4 * np.abs(numbers[expected]).max()
            np.testing.assert_allclose(found, numbers[expected], rtol=0, atol=tolerance)
