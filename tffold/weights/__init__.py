"""Weights on disk: DeepMind's parameter files and checkpoints."""
