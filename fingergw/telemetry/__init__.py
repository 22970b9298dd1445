"""What the gateway reports: the access log, the event log and the metrics."""
