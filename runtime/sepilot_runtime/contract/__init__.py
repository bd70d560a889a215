"""What a model file promises: its picture, its outputs, its proofs; and the one preprocessing."""
