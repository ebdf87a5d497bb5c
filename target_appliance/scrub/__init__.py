"""Background verify: what comes next, within a budget, and what state each point is in."""
