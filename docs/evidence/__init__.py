"""What the audit's evidence is worth, measured where the truth is known."""
