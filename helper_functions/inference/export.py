"""A trained model in other programs' formats, compared with the original before it is kept.

Images (B, 3, H, W), float32 as the model takes them, any number at a time, become one tensor (for
classification logits (B, K)). Height and width are fixed. Beside the model a JSON file holds what
is needed to use it: class names, size, mean and standard deviation of the images.
"""

from __future__ import annotations

import importlib
import io
import json
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helper_functions.checkpoints import load_model
from helper_functions.checkpoints.hub_folder import WEIGHTS, write_hub_folder
from helper_functions.data.dataset import Samples
from helper_functions.data.image_lists import list_images
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.files import make_folder, write_text
from helper_functions.runtime.packages import require_packages
from helper_functions.tasks.predictor import Predictor
from models.failures import place, reason

TOLERANCE = 1e-4  # of the largest output, or of 1 if that is less
INPUT, OUTPUT = "images", "logits"
INFO_FILE = "model.json"
_EXAMPLE = 2  # images: a batch of one would be taken for a constant

Model = Callable[[Tensor], Tensor]


class Format(NamedTuple):
    """A format of export.

    Attributes:
        file: What it is written to.
        packages: Modules that it needs beside this program's own.
        write: Called with the model, an example (2, 3, H, W), the file and the info.
        load: Returns a function of images that runs the file.
    """

    file: str
    packages: tuple[str, ...]
    write: Callable[[nn.Module, Tensor, Path, dict[str, Any]], None]
    load: Callable[[Path], Model]


@contextmanager
def _plain_attention(model: nn.Module) -> Iterator[None]:
    """Have timm's models multiply matrices for attention; ONNX knows it fused in 4-D only."""
    fused = [module for module in model.modules() if getattr(module, "fused_attn", False)]
    for module in fused:
        module.fused_attn = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in fused:
            module.fused_attn = True  # type: ignore[assignment]


def _write_onnx(model: nn.Module, example: Tensor, path: Path, _info: dict[str, Any]) -> None:
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), _plain_attention(model):
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


def _load_onnx(path: Path) -> Model:
    runtime = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])


def _write_torchscript(
    model: nn.Module, example: Tensor, path: Path, _info: dict[str, Any]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TorchScript is old
        torch.jit.trace(model, example).save(str(path))  # type: ignore[no-untyped-call]


def _load_torchscript(path: Path) -> Model:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported: Model = torch.jit.load(str(path))  # type: ignore[no-untyped-call]
    return exported


def _write_torch_export(
    model: nn.Module, example: Tensor, path: Path, _info: dict[str, Any]
) -> None:
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (example,), dynamic_shapes=({0: batch},))
    torch.export.save(program, path)


def _load_torch_export(path: Path) -> Model:
    return torch.export.load(path).module()


def _write_folder(model: nn.Module, _example: Tensor, path: Path, info: dict[str, Any]) -> None:
    write_hub_folder(path.parent, model, info)


def _load_folder(path: Path) -> Model:
    return load_model(path.parent)


FORMATS = {
    "onnx": Format("model.onnx", ("onnx", "onnxscript", "onnxruntime"), _write_onnx, _load_onnx),
    "torchscript": Format("model.torchscript", (), _write_torchscript, _load_torchscript),
    "torch-export": Format("model.pt2", (), _write_torch_export, _load_torch_export),
    "folder": Format(WEIGHTS, (), _write_folder, _load_folder),
}


def export(
    kind: str, model: nn.Module, info: dict[str, Any], images: Tensor, folder: Path
) -> tuple[Path, float]:
    """Write a model in a format, unless what was written computes something else.

    Args:
        kind: One of ``FORMATS``.
        model: In evaluation mode, on the CPU; for ``folder`` with ``architecture`` and
            ``settings``.
        info: As in a checkpoint.
        images: (N, 3, H, W), N at least 1, to compare the two on: all, and the first alone.
        folder: Where the files go.

    Returns:
        The file, and the largest difference of an output.

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
        difference = _write_and_compare(kind, model, info, images, draft)
        if kind != "folder":  # whose configuration holds it all
            described = {**info, "input_size": list(images.shape[1:])}
            write_text(
                draft / INFO_FILE, json.dumps(described, indent=2, ensure_ascii=False) + "\n"
            )
        for file in draft.iterdir():
            file.replace(folder / file.name)
    finally:
        shutil.rmtree(draft)
        if not existed and not any(folder.iterdir()):
            folder.rmdir()
    return folder / chosen.file, difference


def comparison_images(predictor: Predictor, source: Path | None) -> tuple[Tensor, str]:
    """Return a few images (N, 3, H, W) to compare an exported model on, and what they are.

    Args:
        predictor: Reads them as its model needs them.
        source: Folder, pattern or list; ``None`` takes noise. Images of another size than the first
            are cut or padded to it.

    Raises:
        UserError: If an image cannot be read.
    """
    largest = predictor.task.export_size
    if source is None:
        noise = torch.rand(5, 3, largest, largest, generator=torch.Generator().manual_seed(1))
        return noise, "images of random noise (give --img_dir to compare on your own)"
    names, paths, targets = list_images(source)
    batches = list(predictor.loader(Samples(names[:8], paths[:8], targets)))
    failures = [failure for batch in batches for failure in batch.failures]
    if failures:
        raise UserError(failures[0])
    size = [min(side, largest) for side in batches[0].sizes[0]]
    images = []
    for batch in batches:
        for image, (height, width) in zip(
            batch.to(torch.device("cpu")).images, batch.sizes, strict=True
        ):
            own = image[:, :height, :width]
            images.append(F.pad(own, (0, size[1] - width, 0, size[0] - height)))
    return torch.stack(images), f"images of {source}"


def _root(error: BaseException) -> BaseException:
    """Return what an exporter ran into first."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _reason(error: BaseException) -> str:
    """Return in one line what an exporter ran into: the operation's complaint."""
    lines = str(error).strip().splitlines()
    if "Traceback of TorchScript" in str(error):  # which ends with it
        return lines[-1].strip().rstrip(".")
    return f"{type(error).__name__}: {reason(error)}"


def _write_and_compare(
    kind: str, model: nn.Module, info: dict[str, Any], images: Tensor, draft: Path
) -> float:
    """Write the model, read it again and return the largest difference of an output."""
    chosen = FORMATS[kind]
    path = draft / chosen.file
    example = torch.rand(_EXAMPLE, *images.shape[1:], generator=torch.Generator().manual_seed(0))
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with torch.no_grad():
            chosen.write(model, example, path, info)
            expected, exported = model(images), chosen.load(path)
            # A batch of another size than the example's is among them: one baked in must show.
            outputs = [exported(images), exported(images[:1])]
    except Exception as error:  # exporters raise whatever they run into
        root = _root(error)
        settings: dict[str, Any] = getattr(model, "settings", {})
        raise UserError(
            f"The model {settings.get('backbone_name', type(model).__name__)} cannot be written as "
            f"{kind}: {_reason(root)}{place(root, model)}; choose another --export."
        ) from error
    finally:
        log.setLevel(level)
    largest = max(1.0, expected.abs().max().item())
    difference = max((output - expected[: len(output)]).abs().max().item() for output in outputs)
    if not difference <= TOLERANCE * largest:
        raise UserError(
            f"The {kind} file computes something else than the checkpoint: an output is off by "
            f"{difference:.2g}, where {TOLERANCE * largest:.2g} is allowed. It was not kept; try "
            f"another --export, or other versions of its packages."
        )
    return float(difference)
