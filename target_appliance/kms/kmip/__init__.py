"""The KMIP driver: PyKMIP's messages over a transport of our own.

PyKMIP's own transport verifies no host name, speaks IPv4 only, has no deadline for a whole call and logs messages, keys
included, at level debug; its high-level client drops the tag of AES-GCM. Only its message classes are used here.
"""
