"""What a model looks at, and two models side by side."""
