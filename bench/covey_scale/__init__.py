"""How a round grows with the number of members: the production machines in virtual time, over simulated lines."""
