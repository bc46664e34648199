"""Counting from points: one point on every object in, counts and positions out (LCFCN)."""
