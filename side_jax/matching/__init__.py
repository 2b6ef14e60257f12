"""Descriptors, exact search, the streaming sweep and the match table."""
