"""What a hostile client may send, by the hundred thousand, and what a hostile store may hold."""
