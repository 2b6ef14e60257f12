"""The surrogate condition: pseudo-labels for synthetic images, and the time-conditioned classifier that learns them."""
