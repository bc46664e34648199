"""Checkpoint files: plain content, atomic writes, safe reads."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helper_functions.checkpoints.checkpoint import (
    load_model,
    random_states,
    read_checkpoint,
    restore_random_states,
    save_checkpoint,
)
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.files import write_atomically, write_text
from models import VoLUNet, create_model


def _content() -> dict[str, Any]:
    model = create_model("resnet10t", 3, vdsm="nearest")
    return {"settings": model.settings, "model": model.state_dict(), "info": {"classes": ["a"]}}


def test_a_saved_model_scores_alike_when_loaded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    content = _content()
    save_checkpoint(tmp_path / "m.ckpt", content)
    model = load_model(tmp_path / "m.ckpt")
    assert not model.training
    assert isinstance(model, VoLUNet)
    assert model.settings["vdsm"] == "nearest"
    twin = create_model(**content["settings"])
    twin.load_state_dict(content["model"])
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(images), twin.eval()(images))


def test_files_hold_plain_data_only_and_say_what_wrote_them(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m.ckpt", {**_content(), "states": random_states()})
    raw = torch.load(tmp_path / "m.ckpt", weights_only=True)
    assert raw["format"] == "volunet"
    assert raw["versions"]["torch"] == torch.__version__


@pytest.mark.parametrize("damage", ["truncated", "overwritten", "empty"])
def test_damaged_files_are_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "m.ckpt"
    save_checkpoint(path, _content())
    content = path.read_bytes()
    path.write_bytes(
        {"truncated": content[:1000], "overwritten": b"\0" * 500, "empty": b""}[damage]
    )
    with pytest.raises(UserError, match=r"m\.ckpt cannot be read as plain tensors"):
        load_model(path)


def test_files_of_other_programs_and_later_formats_are_refused(tmp_path: Path) -> None:
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match=r"not a checkpoint that train\.py wrote"):
        load_model(tmp_path / "other.ckpt")
    torch.save({"format": "volunet", "format_version": 99}, tmp_path / "later.ckpt")
    with pytest.raises(UserError, match="checkpoint format 99"):
        load_model(tmp_path / "later.ckpt")


def test_settings_and_tensors_that_disagree_are_refused(tmp_path: Path) -> None:
    content = _content()
    content["settings"] = {**content["settings"], "num_classes": 4}
    save_checkpoint(tmp_path / "m.ckpt", content)
    with pytest.raises(UserError, match="does not describe a usable model"):
        load_model(tmp_path / "m.ckpt")
    save_checkpoint(tmp_path / "m.ckpt", {"info": {}})
    with pytest.raises(UserError, match="lacks its part 'settings'"):
        read_checkpoint(tmp_path / "m.ckpt").model()


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")

    def fail(file: Any) -> None:
        file.write(b"half of the new")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_random_states_come_back(tmp_path: Path) -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(1))  # noqa: NPY002

    draw()
    path = tmp_path / "m.ckpt"
    save_checkpoint(path, {"states": random_states()})
    first = draw()
    draw()
    restore_random_states(read_checkpoint(path)["states"])
    assert draw() == first
