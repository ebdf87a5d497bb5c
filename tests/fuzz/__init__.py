"""Fuzzers for every parser of bytes that come from outside: ``make fuzz``, or ``python -m tests.fuzz NAME``."""
