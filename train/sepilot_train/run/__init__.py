"""One training run: recipe, frames, split, judgement, its directory."""
