"""Below everything: errors, files, documents, processes, statistics of times. Knows nothing of cars or models."""
