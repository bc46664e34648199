"""Everything that a run would trip over, found before the run, in one report.

    python -m helper_functions.check_data --csv_path splits.csv --img_dir images --output runs/check

A *fault* makes training fail, or its figures meaningless; a *note* is worth knowing. ``rows`` looks
for them in the table, with the help of ``labels`` and ``spelling``; ``pictures`` looks for them in
the files, which ``decoding`` reads. ``findings`` collects them, ``report`` and ``chart`` show them.
"""
