"""Where sealed files live, behind one port: POSIX folders, memory."""
