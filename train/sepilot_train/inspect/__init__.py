"""A net as a table: layers, parameters, receptive fields, costs."""
