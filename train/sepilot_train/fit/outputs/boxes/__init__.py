"""What things a picture shows, and where."""
