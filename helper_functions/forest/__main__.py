"""The command that writes a data set of forest tiles."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from helper_functions.forest import write_dataset
from helper_functions.runtime.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m helper_functions.forest",
        description="Write a data set of procedural aerial forest tiles.",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--tiles", type=int, default=400, help="number of tiles (default 400)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the forest (default 0)")
    options = parser.parse_args(arguments)
    try:
        write_dataset(options.output, options.tiles, options.seed)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
