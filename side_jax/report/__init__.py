"""The page that a person reads: figures, contact sheets, tables, one self-contained HTML file."""
