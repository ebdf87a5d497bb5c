"""What happens to a frame: check, bound, seal, acknowledge."""
