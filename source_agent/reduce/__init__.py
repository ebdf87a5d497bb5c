"""Making less of what was read: zeros, unchanged grains, compression."""
