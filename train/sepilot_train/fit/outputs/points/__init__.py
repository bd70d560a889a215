"""Named points of one thing, and whether it is there."""
