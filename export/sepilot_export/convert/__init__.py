"""From a net to files: one module per step of the conversion."""
