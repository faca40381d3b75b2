"""The training job of one site: program interface, executors, and the driver of the round loop.

Modules that a head needs (`driver`, `head`, `executor`, `ray_train`, `mailbox`) never import torch at module level: the
head pod trains nothing, and torch would cost it several hundred megabytes in each of its processes.
"""
