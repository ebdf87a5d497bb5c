"""gRPC on the data port: one policy row per RPC, one thin service per proto service."""
