"""Which one of several things a picture shows."""
