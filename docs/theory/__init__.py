"""Makes docs/theory.md and its figures: `make docs`. One module per chapter, each beside its text (NAME.md.j2).

Every chapter has `make(figures)`, which computes, draws SVG files into the folder `figures` and returns the numbers
that its text shows, and `claims(numbers)`, which says what they support. Nothing on the page is typed in.
"""
