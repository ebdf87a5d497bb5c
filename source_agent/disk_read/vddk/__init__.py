"""Reader over VMware's VDDK: the library lives in a worker process of its own, one for each open disk.

VDDK brings its own libssl and libcrypto, starts threads, and may crash. So the agent never loads it: ``process.py``
starts ``worker.py`` with an LD_LIBRARY_PATH of its own, commands go over a socket pair, blocks through shared memory.
The worker's side (``worker``, ``library``, ``abi``, ``protocol``) imports nothing that brings ssl with it.
"""
