"""Where frames come from: cameras, streams, recordings."""
