"""The dry run: what an audit will cost, before anything runs."""
