"""TreeSatAI: 4-band tiles, the JSON of area shares, the two lists; an archive as downloaded."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import tifffile

from raw_archives.images import Truth, noise

# Tile, [genus, area share] as in the published JSON, list. The species of the name is no label.
TILES: tuple[tuple[str, list[tuple[str, float]], str], ...] = (
    ("Abies_alba_1_834_WEFL_NLF.tif", [("Abies", 0.93771), ("Picea", 0.06229)], "train"),
    ("Abies_alba_3_834_WEFL_NLF.tif", [("Abies", 0.6), ("Picea", 0.3)], "train"),
    ("Acer_pseudoplatanus_2_12_BI_NLF.tif", [("Acer", 0.5), ("Fagus", 0.07)], "train"),
    ("Alnus_spec._5_117_WEFL_NLF.tif", [("Alnus", 1.0)], "train"),
    ("Betula_spec._6_21_WEFL_NLF.tif", [("Betula", 0.4), ("Alnus", 0.08)], "train"),
    ("Cleared_0_97_WEFL_NLF.tif", [("Cleared", 0.05), ("Pinus", 0.02)], "train"),
    ("Fagus_sylvatica_7_55_BI_NLF.tif", [("Fagus", 0.81), ("Acer", 0.19)], "train"),
    ("Picea_abies_10_1_WEFL_NLF.tif", [("Picea", 0.99)], "train"),
    ("Pinus_sylvestris_13_9_WEFL_NLF.tif", [("Pinus", 0.71)], "train"),
    ("Quercus_robur_17_4_BI_NLF.tif", [("Quercus", 0.5), ("Fagus", 0.5)], "train"),
    ("Abies_alba_2_111_WEFL_NLF.tif", [("Abies", 0.75), ("Fagus", 0.25)], "test"),
    ("Alnus_spec._5_90_WEFL_NLF.tif", [("Alnus", 0.66), ("Betula", 0.3)], "test"),
    ("Picea_abies_10_77_WEFL_NLF.tif", [("Picea", 0.52), ("Pinus", 0.48)], "test"),
    ("Quercus_robur_17_81_BI_NLF.tif", [("Quercus", 0.8)], "test"),
)
EMPTY = "Cleared_0_97_WEFL_NLF.tif"


def write(folder: Path, tile_folder: str = "aerial/60m") -> Truth:
    """The truth leaves out the tile where nothing covers more than 7 %."""
    tiles = folder / tile_folder
    tiles.mkdir(parents=True)
    (folder / "labels").mkdir()
    for number, (name, _, _) in enumerate(TILES):
        # As GDAL writes them: pixel by pixel, color, the fourth band without meaning of its own.
        tifffile.imwrite(
            *(tiles / name, noise(number, 4)),
            photometric="rgb",
            extrasamples=["unassalpha"],
            planarconfig="contig",
        )
    shares = {name: entries for name, entries, _ in TILES}
    path = folder / "labels" / "TreeSatBA_v9_60m_multi_labels.json"
    path.write_text(json.dumps(shares))
    for split in ("train", "test"):
        names = [name for name, _, listed in TILES if listed == split]
        (folder / f"{split}_filenames.lst").write_text("\n".join(names) + "\n")
    return {
        name: (
            sorted(genus for genus, share in entries if share > 0.07),
            "train" if listed == "train" else "val",
        )
        for name, entries, listed in TILES
        if name != EMPTY
    }


def write_archive(folder: Path) -> Path:
    """A species' ZIP archive of tiles, as downloaded."""
    path = folder / "aerial_60m_abies_alba.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("aerial/60m/Abies_alba_1_834_WEFL_NLF.tif", noise(0, 4).tobytes())
    return path
