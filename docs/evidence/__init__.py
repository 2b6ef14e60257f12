"""docs/evidence.md: how far the numbers of the report can be trusted, measured."""
