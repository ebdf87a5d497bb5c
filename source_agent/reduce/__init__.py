"""What the target holds of grains that were read, so that unchanged ones are left out."""
