"""Extraction: generate over a sweep of λ, and find every image's nearest training image."""
