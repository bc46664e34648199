"""The forward pass and the losses compile to one graph each; no break in our code."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import SMALL, Command, data_flags

from helper_functions.data.flags import InputSettings
from helper_functions.results.training_log import TrainingLog
from helper_functions.tasks.classify import Classify
from helper_functions.tasks.classify.flags import TrainingSettings
from models import create_model


@pytest.mark.parametrize("vdsm", ["released", "corrected", "nearest"])
@pytest.mark.parametrize("min_superpixels", [0, 6])
def test_a_training_step_is_one_graph(vdsm: str, min_superpixels: int) -> None:
    torch.manual_seed(0)
    model = create_model(
        "resnet10t", 5, subsampling=True, vdsm=vdsm, min_superpixels=min_superpixels
    )
    model.train()
    settings = TrainingSettings({}, nms_weight=3, region_tag_weight=2)
    loss = Classify(["a"], InputSettings(64), training=settings).loss
    images, targets = torch.randn(2, 3, 128, 128), torch.ones(2, 5)
    torch._dynamo.reset()
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    results = []
    for function in (loss, compiled):
        model.load_state_dict(state)
        model.zero_grad()
        terms = function(model, images, targets)
        terms["loss"].backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        values = {name: float(term.detach()) for name, term in terms.items()}
        results.append((values, gradients))
    (values, gradients), (other_values, other_gradients) = results
    assert other_values == pytest.approx(values, rel=1e-4)
    assert len(gradients) == len(other_gradients)
    for gradient, other in zip(gradients, other_gradients, strict=True):
        assert torch.allclose(gradient, other, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_training_compiled_follows_training_as_it_is(
    tiny_set: Path, command: Command, tmp_path: Path
) -> None:
    logs = []
    for flags in ((), ("--compile",)):
        output = tmp_path / f"out{len(flags)}"
        done = command(
            *("train.py", *data_flags(tiny_set), *SMALL, "--epochs", 2, *flags),
            *("--output-path", output),
        )
        assert done.returncode == 0, done.stderr
        logs.append([float(row["asl_loss"]) for row in TrainingLog(output / "log.csv").read()])
    assert logs[1] == pytest.approx(logs[0], rel=1e-2)
