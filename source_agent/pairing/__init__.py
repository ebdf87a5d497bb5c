"""How an agent gets its certificate, and keeps it: the pairing line traded for one, and its files."""
