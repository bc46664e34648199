"""Tiny data sets in the layouts of the real ones: folders, file names, columns, band order.

Every module writes one with ``write(folder)`` and returns what its split CSV must hold: labels and
split of every image, ``None`` where the split is not published. ``conversions`` runs ``prepare``.
"""
