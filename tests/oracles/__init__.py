"""References in float64 that share no code with what they judge."""
