"""Everything around the model: command line, data, training loop, checkpoints, metrics, files."""
