"""Clips: reading and writing them, preparing them for a model, and sets of them."""
