"""Procedural aerial tiles of mixed forest, for the demo, the tests and people without data.

A tile imitates the aerial part of TreeSatAI: 304 x 304 RGB pixels of 20 cm, cut into forest stands,
one or two tree genera a stand, some stands cleared. Genera differ a little in color, crown size,
crown form and texture; light, season and sensor differ from tile to tile, as much as genera do.

A tile is drawn in four steps, a module each:

1. ``stands``: lay out the stands.
2. ``crowns``: place the crowns.
3. ``canopy``: raise the canopy, one height map in which the higher crown wins each pixel.
4. ``light``: light and color that map, then photograph it.

``genera`` says what each genus looks like, ``tile`` runs the steps, ``dataset`` writes many tiles.

    python -m helper_functions.forest --output data/forest --tiles 400 --seed 0
"""

from helper_functions.forest.dataset import split_tiles, write_dataset
from helper_functions.forest.genera import CLASSES
from helper_functions.forest.tile import ForestTile, make_tile

__all__ = ["CLASSES", "ForestTile", "make_tile", "split_tiles", "write_dataset"]
