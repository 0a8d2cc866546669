"""What the charts render, asserted by property."""
