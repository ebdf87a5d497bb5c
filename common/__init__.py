"""What both halves of Keysapart must agree on: words, wire, errors, TLS, configuration.

Nothing here knows which side it runs on, and nothing here imports a vendor's library.
"""
