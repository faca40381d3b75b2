"""The validator: one site's voice in a task.

It exchanges updates with its peers, agrees with them on what counts, merges, judges and settles. The round is a pure
machine (`round`), what is signed is stored first (`store`), and the shell around both (`loop`, `service`, `settlement`,
`status`) is thin. Needs numpy only: neither torch nor ray.
"""
