"""Files whose every byte is pinned."""
