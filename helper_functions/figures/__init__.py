"""The README's figures: VDSM step by step, a run's curves, its region maps.

Drawn by matplotlib, without its global state; the same input gives the same bytes.
"""
