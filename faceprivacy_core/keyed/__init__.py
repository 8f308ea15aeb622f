"""Keyed, reversible faces: only the right key brings the original back."""
