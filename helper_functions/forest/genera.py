"""The classes: how common each genus is, and what it looks like from above."""

from __future__ import annotations

from typing import NamedTuple


class Genus(NamedTuple):
    """What a genus looks like from above; lengths are pixels of 20 cm."""

    color: tuple[float, float, float]  # sunlit crown color, RGB in 0..255
    spacing: float  # distance between neighboring crown centers
    closure: float  # crown diameter over spacing; above 1 the crowns interlock
    height: float  # height of the crown's rim above the ground
    depth: float  # height of the tip above the rim, in crown radii
    fullness: float  # exponent of the crown's profile: 1 a cone, 2 a dome, 3 a flat-topped dome
    lobes: int  # number of lobes (or branches) round the outline
    lobing: float  # depth of the outline's lobes, as a share of the radius
    pointed: bool  # whether the lobes are pointed (a conifer's star) or round (a broadleaf's)
    clumps: float  # height of the foliage clumps, in pixels
    clump_size: float  # 0 for small clumps, 1 for large ones, mixed in between
    leaf: float  # contrast of the finest texture
    tip: float  # how much brighter the tip is than the rest of the crown


# fmt: off
# How common a genus is among the stands.
FREQUENCY: dict[str, float] = {
    "Abies": .045, "Acer": .055, "Alnus": .05, "Betula": .06, "Cleared": .09, "Fagus": .125,
    "Fraxinus": .045, "Larix": .06, "Picea": .13, "Pinus": .16, "Populus": .025, "Prunus": .022,
    "Pseudotsuga": .055, "Quercus": .145, "Tilia": .025,
}

# Genera with neighboring looks, such as Picea and Abies or Quercus and Fagus, differ little on
# purpose: that is what makes the classes fine-grained. Columns follow the attributes of Genus.
GENERA: dict[str, Genus] = {
    "Abies":       Genus((66, 92, 70),   19, 1.20, 26, 1.75, 1.2, 13, .13, True,  .5,  .2, .06, .2),
    "Acer":        Genus((118, 138, 68), 28, 1.18, 34, .75,  2.2, 5,  .14, False, 1.9, .5, .08, 0),
    "Alnus":       Genus((88, 112, 64),  20, 1.16, 28, .90,  1.8, 4,  .10, False, 1.2, .2, .10, 0),
    "Betula":      Genus((122, 142, 86), 19, 1.08, 30, .95,  1.7, 5,  .16, False, 1.0, .1, .13, 0),
    "Cleared":     Genus((112, 122, 70), 34, .24,  1,  1.10, 2.0, 4,  .15, False, .6,  .1, .10, 0),
    "Fagus":       Genus((104, 130, 62), 35, 1.24, 38, .65,  2.5, 6,  .12, False, 1.9, .8, .06, 0),
    "Fraxinus":    Genus((120, 138, 84), 27, 1.10, 36, .85,  2.0, 6,  .22, False, 1.5, .4, .12, 0),
    "Larix":       Genus((108, 128, 78), 21, 1.14, 30, 1.25, 1.4, 11, .14, True,  .7,  .2, .11, .1),
    "Picea":       Genus((68, 92, 62),   17, 1.20, 26, 1.80, 1.1, 12, .16, True,  .5,  .1, .07, .3),
    "Pinus":       Genus((94, 112, 76),  21, 1.10, 30, 1.05, 1.6, 7,  .16, False, 1.4, .3, .10, 0),
    "Populus":     Genus((124, 142, 94), 25, 1.12, 40, 1.15, 1.8, 5,  .14, False, 1.3, .2, .14, 0),
    "Prunus":      Genus((110, 126, 76), 22, 1.14, 28, .80,  2.1, 4,  .12, False, 1.4, .4, .09, 0),
    "Pseudotsuga": Genus((76, 100, 62),  22, 1.20, 28, 1.60, 1.2, 13, .17, True,  .8,  .3, .08, .2),
    "Quercus":     Genus((108, 126, 66), 33, 1.16, 34, .70,  2.2, 7,  .20, False, 2.4, .6, .09, 0),
    "Tilia":       Genus((114, 138, 74), 27, 1.20, 35, .95,  1.9, 5,  .10, False, 1.7, .4, .07, 0),
}
# fmt: on

CLASSES: tuple[str, ...] = tuple(GENERA)
CLEARED = CLASSES.index("Cleared")
