"""Word between gateways: the one pub/sub connection, and what is announced on it."""
