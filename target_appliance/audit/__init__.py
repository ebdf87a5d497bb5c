"""The audit log: a chain of lines in a folder that only grows, written by the server and by commands."""
