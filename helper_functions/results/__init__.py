"""Numbers to files: tables, overlays, curves, the report."""
