"""Pixel masks of images: 8-bit PNGs of class indices, and the names behind the indices.

A mask folder holds one PNG an image, of the image's name and size, gray or with a palette, and
``classes.json``: a JSON list of class names, the name of pixel value 0 first. Names that the model
does not know (``"background"``) mean "no class".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from helper_functions.data.bands import FormatError, ImageFormat, check_size
from helper_functions.data.folders import locate
from helper_functions.data.images import DEFAULT, ImageError, read_image, without_limit
from helper_functions.runtime.errors import UserError
from helper_functions.runtime.lookalikes import contrast, find_look_alike

NAMES_FILE = "classes.json"

IndexArray = npt.NDArray[np.intp]


def _mask_names(path: Path) -> list[str]:
    """Read the class names by pixel value."""
    advice = "a JSON list of class names, the name of pixel value 0 first"
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"The mask folder lacks its names: write {path}, {advice}.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); it must hold {advice}.") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{path} must hold {advice}.")
    return names


class MaskFolder:
    """The masks of a set of images, read as the K classes of a model.

    They may be as large as ``image_format`` allows images to be.

    Raises:
        UserError: If the folder or its names are missing, or no name is a class of the model.
    """

    def __init__(
        self, folder: Path, classes: Sequence[str], image_format: ImageFormat = DEFAULT
    ) -> None:
        if not folder.is_dir():
            raise UserError(f"The mask folder {folder} does not exist; check --mask-dir.")
        self.folder = folder
        self.image_format = image_format
        self.names = _mask_names(folder / NAMES_FILE)
        index_of = {name: index for index, name in enumerate(classes)}
        indices = [index_of.get(name, len(classes)) for name in self.names]
        self.class_of_value = np.array(indices, np.intp)
        for name in self.names:
            if name not in index_of and (alike := find_look_alike(name, classes)):
                shown, known = contrast(name, alike)
                raise UserError(
                    f"{folder / NAMES_FILE} names {shown}, which looks like the model's class "
                    f"{known} and is another text; spell it as in the split CSV."
                )
        if not set(self.names) & set(classes):
            raise UserError(
                f"None of the {len(self.names)} names in {folder / NAMES_FILE} is a class of the "
                f"model, such as {classes[0]!r}; spell them as in the split CSV."
            )

    def path(self, filename: str) -> Path:
        """Return the mask file of an image; both names are relative to their folders."""
        return locate(self.folder, str(PurePath(filename).with_suffix(".png")))

    def read(self, filename: str) -> IndexArray:
        """Read the classes of an image's pixels, (H, W): 0..K-1, or K for no class of the model.

        Raises:
            UserError: If the mask is missing, damaged or no 8-bit PNG, or a value has no name.
        """
        path = self.path(filename)
        if not path.is_file():
            missing = f"The mask {path} of the image {filename} is missing"
            raise UserError(f"{missing}; add it, or leave out --mask-dir.")
        try:
            # No other format: lossy ones change the values.
            with without_limit(), Image.open(path, formats=["PNG"]) as image:
                check_size(*image.size, 1, self.image_format)
                mode, values = image.mode, np.asarray(image)
        except FormatError as error:
            raise UserError(f"The mask {path} cannot be read: {error}.") from error
        except Exception as error:  # On a damaged file Pillow raises whatever it runs into.
            reason = f"cannot be read as a PNG ({error}); save it again"
            raise UserError(f"The mask {path} {reason}.") from error
        if mode not in ("L", "P"):
            raise UserError(
                f"The mask {path} has Pillow's mode {mode}; save the class indices as an 8-bit PNG "
                "in gray (L) or with a palette (P)."
            )
        highest = int(values.max())
        if highest >= len(self.names):
            raise UserError(
                f"The mask {path} holds the value {highest}, but {self.folder / NAMES_FILE} names "
                f"only 0 to {len(self.names) - 1}; name it there ('background', if it is none of "
                "the model's classes) or fix the mask."
            )
        classes: IndexArray = self.class_of_value[values]
        return classes

    def check(
        self, filenames: Sequence[str], images: Sequence[Path], image_format: ImageFormat = DEFAULT
    ) -> None:
        """Read every mask and its image, so that what is wrong is known before a model runs.

        Raises:
            UserError: As ``read``, or if an image cannot be read or its mask differs in size.
        """
        checked = tqdm(filenames, desc="checking masks", disable=None, leave=False)
        for filename, path in zip(checked, images, strict=True):
            height, width = self.read(filename).shape
            try:
                expected = read_image(path, image_format).size
            except ImageError as error:
                raise UserError(str(error)) from error
            if (width, height) != expected:
                raise UserError(
                    f"The mask {self.path(filename)} has {width} x {height} pixels, but its "
                    f"image {path} has {expected[0]} x {expected[1]}; make them the same size."
                )
