"""Face privacy with diffusion models, independent of any host program."""
