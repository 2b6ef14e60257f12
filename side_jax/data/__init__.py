"""Image sets, how pixels are prepared, the split."""
