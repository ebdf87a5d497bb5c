"""Points: staging, commit, chains, verify, export."""
