"""When an image may leave: criteria, temperatures, thresholds and what they cost. No torch."""
