"""From a frame to what the car is told: checks, supervisor, actuation, the loop."""
