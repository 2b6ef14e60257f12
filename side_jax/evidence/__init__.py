"""Numbers that stand up: scores (AMS, UMS, …), their intervals, and tests of differences."""
