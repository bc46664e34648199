"""Which class does the model see where? The regions of pictures, each with its one class.

The head scores the superpixels (or cells) of the feature map; ``find`` gives each region's top
class, ``drawing`` lays them over the picture, ``writing`` makes the files of ``val.py --regions``.
"""

from helper_functions.region_maps.drawing import LegendEntry, draw_legend, legend, overlay
from helper_functions.region_maps.finding import RegionMap, find_region_maps, split_region_maps
from helper_functions.region_maps.writing import write_png, write_region_maps

__all__ = [
    "LegendEntry",
    "RegionMap",
    "draw_legend",
    "find_region_maps",
    "legend",
    "overlay",
    "split_region_maps",
    "write_png",
    "write_region_maps",
]
