"""From files to batches: images, tables, points, masks."""
