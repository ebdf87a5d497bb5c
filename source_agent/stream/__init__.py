"""The agent's end of the wire: the channel to the target, and one sender per disk."""
