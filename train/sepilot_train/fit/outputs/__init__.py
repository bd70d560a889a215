"""What a net learns to say, one folder for each kind of output."""
