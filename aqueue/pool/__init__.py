"""What a running pool does: it recovers what an earlier one left, works, and removes what is old."""
