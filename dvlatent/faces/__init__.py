"""Photos of people: what the house needs to look at a face."""
