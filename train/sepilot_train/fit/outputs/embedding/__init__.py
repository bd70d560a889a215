"""Who or what a picture shows, as a vector that is like those of other pictures of the same."""
