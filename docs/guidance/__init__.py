"""docs/guidance.md: which of clipping order, guide, λ and draw of the labels matters how much, measured."""
