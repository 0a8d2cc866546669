"""One rule per file, over every object of every environment."""
