"""A round of one model in Covey, Flower, NVIDIA FLARE and plain TCP, between the same network namespaces."""
