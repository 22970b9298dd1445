"""The parts of a gateway: each is checked on this machine, and then opened, or kept from the previous configuration."""
