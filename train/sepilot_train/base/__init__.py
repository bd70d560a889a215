"""Below all of training: quiet start, progress bars, plots, metrics, the picture cache."""
