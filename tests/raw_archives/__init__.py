"""Tiny data sets in the layouts of the real ones: folders, file names, columns, band order.

Every module writes one with ``write(folder)`` and returns what a split CSV must say of it: labels
and split of every picture, ``None`` where the split is not published.
"""
