"""Grains, manifests and records under keys: AES-256-GCM, key derivation, wrapping."""
