"""Makes the numbers of docs/evidence.md."""
