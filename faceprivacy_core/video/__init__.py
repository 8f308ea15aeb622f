"""Clips as files: reading frames one by one, and writing them again with nothing but pixels and sound."""
