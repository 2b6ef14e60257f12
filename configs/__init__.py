"""One file per experiment; default.py has every field."""
