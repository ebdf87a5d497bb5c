"""Our speed beside what a user would run instead, on one machine in one run: ``make bench``."""
