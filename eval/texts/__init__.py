"""When two texts count as the same."""
