"""The papers' theory, runnable: point-wise memorization, the ReLU denoising autoencoder, linear diffusion."""
