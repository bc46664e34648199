"""A trained model in other programs' formats, compared with the original before it is handed over.

Exported is the classification path: pictures (B, 3, S, S), float32 as the model takes them, any
number at a time, become logits (B, K). Beside the model a JSON file says what it needs to be used:
class names, size, mean and standard deviation of the pictures.
"""

from __future__ import annotations

import importlib
import io
import json
import logging
import os
import shutil
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from helper_functions.checkpoints.checkpoint import load_model
from helper_functions.checkpoints.hub_folder import WEIGHTS, write_model_folder
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.files import make_folder, write_text
from helper_functions.runtime.packages import require_packages, versions
from models import VoLUNet

TOLERANCE = 1e-4  # of the largest logit, or of 1 if that is less
INPUT, OUTPUT = "images", "logits"
CARD = "model.json"
_EXAMPLE = 2  # pictures: a batch of one would be taken for a constant

Scorer = Callable[[Tensor], Tensor]


class Format(NamedTuple):
    """A format of export.

    Attributes:
        file: What it is written to.
        packages: Modules that it needs beside this program's own.
        write: Called with the model, an example (2, 3, S, S), the file and the card.
        load: Makes the file a function of pictures.
    """

    file: str
    packages: tuple[str, ...]
    write: Callable[[VoLUNet, Tensor, Path, dict[str, Any]], None]
    load: Callable[[Path], Scorer]


def _write_onnx(model: VoLUNet, example: Tensor, path: Path, _card: dict[str, Any]) -> None:
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (example,),
            path,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def _load_onnx(path: Path) -> Scorer:
    runtime = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])


def _write_torchscript(model: VoLUNet, example: Tensor, path: Path, _card: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TorchScript is old
        torch.jit.trace(model, example).save(str(path))  # type: ignore[no-untyped-call]


def _load_torchscript(path: Path) -> Scorer:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scorer: Scorer = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
    return scorer


def _write_torch_export(model: VoLUNet, example: Tensor, path: Path, _card: dict[str, Any]) -> None:
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (example,), dynamic_shapes=({0: batch},))
    torch.export.save(program, path)


def _load_torch_export(path: Path) -> Scorer:
    return torch.export.load(path).module()


def _write_folder(model: VoLUNet, _example: Tensor, path: Path, card: dict[str, Any]) -> None:
    write_model_folder(path.parent, model, card)


def _load_folder(path: Path) -> Scorer:
    return load_model(path.parent)


FORMATS = {
    "onnx": Format("model.onnx", ("onnx", "onnxscript", "onnxruntime"), _write_onnx, _load_onnx),
    "torchscript": Format("model.torchscript", (), _write_torchscript, _load_torchscript),
    "torch-export": Format("model.pt2", (), _write_torch_export, _load_torch_export),
    "folder": Format(WEIGHTS, (), _write_folder, _load_folder),
}


def export(
    kind: str, model: VoLUNet, card: dict[str, Any], pictures: Tensor, folder: Path
) -> tuple[Path, float]:
    """Write a model in a format, unless what was written scores differently.

    Args:
        kind: One of ``FORMATS``.
        model: In evaluation mode, on the CPU.
        card: What the model needs to be used, as plain data: ``classes``, ``image_size``, ...
        pictures: (N, 3, S, S), N at least 1, to compare the two on: all, and the first alone.
        folder: Where the files go.

    Returns:
        The file, and the largest difference of a logit.

    Raises:
        UserError: If packages are missing, the format cannot express the model, or the difference
            exceeds ``TOLERANCE``. Nothing is then left behind.
    """
    chosen = FORMATS[kind]
    require_packages(f"--export {kind}", chosen.packages)
    existed = folder.exists()
    make_folder(folder)
    draft = folder / f".export.{os.getpid()}.tmp"
    draft.mkdir(exist_ok=True)
    try:
        difference = _write_and_compare(kind, model, card, pictures, draft)
        if kind != "folder":  # whose configuration holds it all
            write_text(draft / CARD, json.dumps(card, indent=2, ensure_ascii=False) + "\n")
        for file in draft.iterdir():
            file.replace(folder / file.name)
    finally:
        shutil.rmtree(draft)
        if not existed and not any(folder.iterdir()):
            folder.rmdir()
    return folder / chosen.file, difference


def _reason(error: BaseException) -> str:
    """What an exporter ran into first, a line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}".rstrip(".") if lines else type(error).__name__


def _write_and_compare(
    kind: str, model: VoLUNet, card: dict[str, Any], pictures: Tensor, draft: Path
) -> float:
    """Write the model to a folder, read it again and return the largest difference of a logit."""
    chosen = FORMATS[kind]
    path = draft / chosen.file
    example = torch.rand(_EXAMPLE, *pictures.shape[1:], generator=torch.Generator().manual_seed(0))
    noise = logging.getLogger("torch.onnx")
    level = noise.level
    noise.setLevel(logging.ERROR)
    try:
        with torch.no_grad():
            chosen.write(model, example, path, card)
            expected, scorer = model(pictures), chosen.load(path)
            # A batch of another size than the example's is among them: one baked in must show.
            found = [scorer(pictures), scorer(pictures[:1])]
    except Exception as error:  # exporters raise whatever they run into
        raise UserError(
            f"The model cannot be written as {kind} by {versions(('torch', *chosen.packages))}: "
            f"{_reason(error)}. Other versions of these packages may do it."
        ) from error
    finally:
        noise.setLevel(level)
    largest = max(1.0, expected.abs().max().item())
    difference = max((logits - expected[: len(logits)]).abs().max().item() for logits in found)
    if not difference <= TOLERANCE * largest:
        raise UserError(
            f"The {kind} file scores differently from the checkpoint: a logit is off by "
            f"{difference:.2g}, where {TOLERANCE * largest:.2g} is allowed. It was not kept; try "
            f"another --export, or other versions of its packages."
        )
    return float(difference)
