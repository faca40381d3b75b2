"""Real Kubernetes clusters, a registry, a chain and the images of Covey on one Linux machine, without Docker."""
