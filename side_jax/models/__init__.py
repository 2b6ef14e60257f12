"""Networks as Flax (linen) modules: the diffusers UNet and the ResNets that guide it."""
