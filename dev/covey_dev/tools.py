"""All tools at once, and the variables by which other programs find them."""

import shlex

from covey_dev import choice, foundry, golang


def ensure() -> None:
    """Install or build everything that is missing, the quick parts first."""
    place = choice.chosen()
    foundry.ensure()
    place.ensure_tools()
    golang.kube()
    golang.kube_oldest()
    golang.helm()
    golang.kubeconform()
    golang.promtool()
    golang.minisign()
    golang.geth()


def environment() -> dict[str, str]:
    """Tool paths as environment variables; builds what is missing."""
    ensure()
    return {
        **foundry.environment(),
        "KUBECTL": str(golang.kube() / "kubectl"),
        "HELM": str(golang.helm()),
        "KUBECONFORM": str(golang.kubeconform()),
        "COVEY_GETH": str(golang.geth()),
    }


def shell_exports() -> str:
    """`environment` as lines for `eval`."""
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in environment().items())
