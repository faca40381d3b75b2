"""A round of a 97 MB model with three sites: Covey, Flower, FLARE and plain TCP on the same lines."""
