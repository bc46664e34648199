"""What goes wrong inside a model, in words for people."""

from __future__ import annotations

import os
import traceback

from torch import nn


def reason(error: BaseException) -> str:
    """Return the first line of an error, or the line of code at fault if it has no text."""
    if lines := str(error).strip().splitlines():
        return lines[0].strip().rstrip(".")
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if f"{os.sep}torch{os.sep}" not in frame.filename]
    return f"{type(error).__name__} at '{own[-1].line}'" if own else type(error).__name__


def place(error: BaseException, model: nn.Module) -> str:
    """Return the innermost module of a model that an error left, as ``in name (Class)``, or ''."""
    names = {id(module): name for name, module in model.named_modules()}
    found = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module = frame.f_locals.get("self")
        if names.get(id(module)):
            found = f" in {names[id(module)]} ({type(module).__name__})"
    return found
