"""From a published raw layout to the split CSV, with a manifest of where it came from.

    python -m helper_functions.prepare treesatai --raw-dir raw/treesatai --out splits.csv

Every layout has a module of its own (``treesatai``, ``geolifeclef``, ``fathomnet``,
``shiprsimagenet``, ``coco``, ``onehot``, ``labels``) that adds its flags and reads its files
through ``sources``, which hashes them, into the rows of ``rows``; the last two share ``any_table``.
``cutting`` cuts a validation split where none is published, ``outputs`` writes CSV and manifest,
``download`` fetches FathomNet's images.
"""
