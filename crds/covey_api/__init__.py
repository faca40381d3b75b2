"""Covey's API, defined once: the resources as typed models, the terms that go on chain, conditions and reasons.

Everything that describes the API elsewhere (CRDs, `kubectl explain`, reference docs) is generated from here.
"""

GROUP = "covey.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
