"""Saved inversions: what brings the faces of a picture back, in a file."""
