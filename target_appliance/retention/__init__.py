"""Which points are kept, and for how long: rules, holds, locks, and a clock that nobody sets forward."""
