"""Reads a snapshot's disk by attaching it to the agent's own VM: attach, locate, read, detach."""
