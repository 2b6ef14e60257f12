"""A target seen from inside: probe, spikiness, membership, steering vectors."""
