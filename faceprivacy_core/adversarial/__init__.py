"""Weakened diffusion purification: latents that a diffusion model does not clean of their attack."""
