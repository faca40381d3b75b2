"""`make bench-incentives`: what the incentive rule does with honest members and with attackers, in real training."""
