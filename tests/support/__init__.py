"""What several tests need: gateways in this process or in one of their own, clients, and servers to ask."""
