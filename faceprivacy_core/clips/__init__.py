"""Faces of clips: one new face for every person, in every frame."""
