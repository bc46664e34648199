"""The README's figures: the architecture, VDSM step by step, a run's curves, its region maps.

The architecture is SVG text laid out by hand; the others are drawn by matplotlib, without its
global state. The same input gives the same bytes.

    python -m helper_functions.figures --output images --log runs/demo/train/log.csv
"""

from helper_functions.figures.architecture import architecture_svg, draw_architecture
from helper_functions.figures.vdsm import cell_features, draw_vdsm

__all__ = [
    "architecture_svg",
    "cell_features",
    "draw_architecture",
    "draw_vdsm",
]
