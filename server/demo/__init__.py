"""What the demo is made of: a data file, and the rehearsal of an agent that works with it."""
