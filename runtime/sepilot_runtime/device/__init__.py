"""The machine that drives: model slots, signatures, conditions, the doctor."""
