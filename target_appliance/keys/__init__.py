"""The life of keys after they were made: rotated, shown, revealed, destroyed."""
