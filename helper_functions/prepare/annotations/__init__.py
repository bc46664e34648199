"""Readers of what annotation tools write, one module a format, for ``prepare points``.

A module has ``HELP``, ``ORIGIN``, ``EXTENSIONS``, ``FOLDER``, ``FLAGS`` and ``read``, as
``base.Format`` tells.
"""
