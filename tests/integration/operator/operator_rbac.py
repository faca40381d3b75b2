"""The rights under which the operator runs in these tests: those that charts/covey grants."""

from __future__ import annotations

from typing import Any

OPERATOR_NAMESPACE = "covey-system"

Object = dict[str, Any]

# What charts/covey grants, written down once more so that a missing right shows here.
RULES: list[Object] = [
    {"apiGroups": ["covey.dev"], "resources": ["subnets"], "verbs": ["get", "list", "watch", "patch"]},
    {
        "apiGroups": ["covey.dev"],
        "resources": ["federatedtasks"],
        "verbs": ["get", "list", "watch", "create", "patch", "delete"],
    },
    {"apiGroups": ["covey.dev"], "resources": ["subnets/status", "federatedtasks/status"], "verbs": ["patch"]},
    {"apiGroups": ["covey.dev"], "resources": ["subnets/finalizers", "federatedtasks/finalizers"], "verbs": ["update"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "create", "patch", "delete"]},
    {
        "apiGroups": [""],
        "resources": ["services", "configmaps", "persistentvolumeclaims"],
        "verbs": ["get", "list", "create", "patch", "delete"],
    },
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "create", "patch", "delete"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]},
    {"apiGroups": ["ray.io"], "resources": ["rayclusters"], "verbs": ["get", "list", "create", "patch", "delete"]},
    {
        "apiGroups": ["networking.k8s.io"],
        "resources": ["networkpolicies"],
        "verbs": ["get", "list", "create", "patch", "delete"],
    },
]
LEASE_RULES: list[Object] = [
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
    {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "resourceNames": ["covey-operator"],
        "verbs": ["get", "update"],
    },
]
