"""The demo: three institutions train one model together, each in a Kubernetes cluster of its own."""
