"""The write stream's protocol without I/O: events and one machine per end."""
