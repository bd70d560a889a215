"""Fitting a net: data, augmentation, callbacks."""
