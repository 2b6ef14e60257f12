"""Pages, and what makes them."""
