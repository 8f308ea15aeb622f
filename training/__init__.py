"""The recipe of the built-in face model: data, autoencoder, diffusion, export. See README.md."""
