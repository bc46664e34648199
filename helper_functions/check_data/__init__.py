"""Check a split CSV and its images before a run, in one report. ``README.md`` says how.

A *fault* makes training fail, or its metrics meaningless; a *note* is worth knowing. ``rows``
checks the table, with the help of ``labels`` and ``spelling``, ``points`` those of counting;
``images`` decodes and checks the files. ``findings`` collects faults and notes, ``report`` and
``chart`` show them.
"""
