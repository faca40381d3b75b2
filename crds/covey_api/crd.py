"""CustomResourceDefinitions from the models: `python -m covey_api.crd --write|--check`.

Two forms of the same objects: plain manifests in `crds/`, and templates of the Helm chart (Helm never upgrades what
lies in a chart's own `crds/` folder, so they are templates that `helm uninstall` keeps).
"""

from __future__ import annotations

import sys
from typing import Any

import yaml

from covey_api import GROUP, VERSION
from covey_api.base import Rule
from covey_api.generated import main
from covey_api.resources import RESOURCES, Column, Resource
from covey_api.schema import structural

COMMAND = "python -m covey_api.crd"
HEADER = f"# Generated from the models in crds/covey_api by `{COMMAND} --write`.\n"

NAME = Rule(
    "self.metadata.name.size() <= 47 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    "metadata.name must be at most 47 characters (names of children add suffixes), lower-case letters, digits and "
    "dashes, and must start with a letter",
)


def definition(resource: Resource) -> dict[str, Any]:
    """The CustomResourceDefinition (apiextensions.k8s.io/v1) of a resource."""
    spec = structural(resource.spec)
    status = structural(resource.status, defaults=False)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": resource.crd_name},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": resource.kind,
                "listKind": f"{resource.kind}List",
                "plural": resource.plural,
                "singular": resource.singular,
                "shortNames": list(resource.short_names),
                "categories": ["covey"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(column) for column in resource.columns],
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "description": resource.description,
                            "required": ["spec"],
                            "properties": {
                                "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}."},
                                "kind": {"type": "string", "description": f"{resource.kind}."},
                                "metadata": {"type": "object"},
                                "spec": spec,
                                "status": status,
                            },
                            "x-kubernetes-validations": [NAME.validation],
                        }
                    },
                }
            ],
        },
    }


def _column(column: Column) -> dict[str, Any]:
    """One printer column."""
    return {
        "name": column.name,
        "type": column.type,
        "jsonPath": column.json_path,
        "description": column.description,
        **({"priority": 1} if column.wide else {}),
    }


class _Plain(yaml.SafeDumper):
    """YAML without anchors: readers should not have to look up what a default was."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def manifest(resource: Resource) -> str:
    """The definition as YAML."""
    return HEADER + yaml.dump(definition(resource), Dumper=_Plain, sort_keys=False, width=110, allow_unicode=True)


def template(resource: Resource) -> str:
    """The definition as a template of the chart, kept at uninstallation unless `crds.keep` is false."""
    text = manifest(resource)
    if "{{" in text:
        raise ValueError(f"{resource.crd_name}: a description contains '{{{{', which Helm would read as its own")
    head = f"metadata:\n  name: {resource.crd_name}\n"
    chart_head = f"""{head}  labels:
    {{{{- include "covey.labels" . | nindent 4 }}}}
  {{{{- if .Values.crds.keep }}}}
  annotations:
    helm.sh/resource-policy: keep
  {{{{- end }}}}
"""
    return f"{{{{- if .Values.crds.enabled }}}}\n{text.replace(head, chart_head, 1)}{{{{- end }}}}\n"


def files() -> dict[str, str]:
    """Every generated file: path inside the repository -> text."""
    plain = {f"crds/{GROUP}_{resource.plural}.yaml": manifest(resource) for resource in RESOURCES}
    chart = {f"charts/covey/templates/crds/{resource.plural}.yaml": template(resource) for resource in RESOURCES}
    return plain | chart


if __name__ == "__main__":
    sys.exit(main(COMMAND, files()))
