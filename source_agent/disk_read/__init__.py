"""Block readers: drivers that read a snapshot's disks, behind one port."""
