"""Boot drills: a point's live view is started as a VM without a network, to see whether the guest comes up."""
