"""What makes a gateway of a configuration, and keeps it going."""
