"""Network architectures of the recognisers, one file each."""
