"""What is told of the gateway: the access log, the event log, the metrics."""
