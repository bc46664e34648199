"""What each task adds to the common programs."""
