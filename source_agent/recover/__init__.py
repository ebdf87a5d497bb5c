"""Reading replicas back from the target, with an operator's certificate."""
