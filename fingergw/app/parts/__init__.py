"""What a gateway is made of: each part of a configuration, looked at on this machine, and then made."""
