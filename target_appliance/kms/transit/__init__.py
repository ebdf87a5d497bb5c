"""The Transit driver: OpenBao's and HashiCorp Vault's encryption service over HTTPS.

Plain HTTP/1.1 over our own TLS connections instead of a client library: those bound each read of a socket, not a call,
and bring a second HTTP stack along.
"""
