"""One number per picture: an angle, a throttle, a brake."""
