"""The sealed VMDK: stream-optimised layout, descriptor, writer and reader. No keys and no policy."""
