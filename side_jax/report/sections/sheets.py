"""Contact sheets: generated images beside the photos that they resemble most."""

from side_jax.report.section import Section

SECTION = Section("sheets", "Contact sheets", lambda page: page.sheets, needed=lambda page: bool(page.sheets))
