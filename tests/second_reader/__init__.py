"""A reader of points written from docs/format.md alone: an oracle that shares no code with what it checks.

Imports the standard library, cryptography, lz4 and blake3, and nothing of the project; a test holds it to that.
"""
