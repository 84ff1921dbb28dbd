"""The request log and the metrics of a worker."""
