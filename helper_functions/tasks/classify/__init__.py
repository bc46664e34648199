"""Multi-label classification with VoLUNet."""
