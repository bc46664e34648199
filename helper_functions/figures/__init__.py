"""The README's figures: VDSM step by step, a run's curves, its region maps.

Drawn by matplotlib, without its global state; the same input gives the same bytes.

    python -m helper_functions.figures --output images --log runs/demo/train/log.csv
"""

from helper_functions.figures.vdsm import cell_features, draw_vdsm

__all__ = ["cell_features", "draw_vdsm"]
