"""What happens inside the target: activations by layer, what they say of an image, and what changing them does."""
