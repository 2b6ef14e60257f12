"""The model under audit: network and noise schedule, from training or from the files of others; images from it."""
