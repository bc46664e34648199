"""From a published raw layout to the split CSV, with a manifest of where it came from.

    python -m helper_functions.prepare treesatai --raw-dir raw/treesatai --out splits.csv

Every layout has a module of its own (``treesatai``, ``geolifeclef``, ``fathomnet``,
``shiprsimagenet``, ``coco``, ``onehot``, ``labels``; of points: ``trancos``, ``shanghaitech``,
``points``) that adds its flags and reads its files through ``sources``, which hashes them, into the
rows of ``rows`` and the points of ``point_rows``. ``any_table`` is what ``onehot`` and ``labels``
share, ``annotations`` reads the formats of annotation tools, ``mat_files`` MATLAB's. ``cutting``
cuts a validation split where none is published, ``outputs`` writes CSVs and manifest, ``download``
fetches FathomNet's images.
"""
