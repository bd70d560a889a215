"""A model file and the interpreter that runs it, from bytes to answers."""
