"""Does accuracy hold? References, fidelity, gates."""
