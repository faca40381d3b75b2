"""Errors of the edges as reasons of the API: one place decides what a person reads."""

from __future__ import annotations

from covey_api.status import Reason
from covey_chain import errors

from covey_operator.keys import BadKeyError
from covey_operator.kube import NameConflictError, RefusedError
from covey_operator.plan.model import Problem

CHAIN_REASONS: dict[type[errors.ChainError], Reason] = {
    errors.RpcUnavailable: Reason.RPC_UNAVAILABLE,
    errors.WrongChain: Reason.WRONG_CHAIN,
    errors.NoContract: Reason.NO_CONTRACT,
    errors.BadWalletKey: Reason.BAD_WALLET_KEY,
    errors.BadKeystore: Reason.BAD_WALLET_KEY,
    errors.SignerUnavailable: Reason.SIGNER_UNAVAILABLE,
    errors.SignerRefused: Reason.SIGNER_REFUSED,
    errors.InsufficientFunds: Reason.INSUFFICIENT_FUNDS,
    errors.Reverted: Reason.TRANSACTION_REVERTED,
    # Both pass by themselves: the intent is tried again.
    errors.NonceTaken: Reason.PENDING,
    errors.TransactionLost: Reason.PENDING,
}

# Without these nobody can speak for the member: there is no use in waiting.
NO_VOICE = frozenset(
    {
        Reason.SUBNET_NOT_FOUND,
        Reason.SUBNET_NOT_READY,
        Reason.WALLET_SECRET_NOT_FOUND,
        Reason.BAD_WALLET_KEY,
        Reason.WRONG_CHAIN,
        Reason.NO_CONTRACT,
        Reason.CONSORTIUM_NOT_FOUND,
    }
)


def of_chain(error: errors.ChainError) -> Problem:
    """What a person reads about a chain error; the message carries the remedy."""
    known = (CHAIN_REASONS[kind] for kind in type(error).__mro__ if kind in CHAIN_REASONS)
    return Problem(next(known, Reason.RPC_UNAVAILABLE), _sentence(str(error)))


def too_slow(seconds: float) -> Problem:
    """A transaction or read took longer than a pass may; it is looked at again."""
    return Problem(
        Reason.PENDING,
        f"The chain did not confirm within {seconds:.0f} s; the operator looks again. If it stays so, check "
        "the chain's fees and whether it makes blocks.",
    )


def of_name(error: NameConflictError) -> Problem:
    """Somebody else's object has a name that we need."""
    return Problem(
        Reason.NAME_CONFLICT,
        f"{error.kind} {error.name} exists in namespace {error.namespace} and is not this object's child; it is left "
        "alone. Delete or rename it, or apply this object under another name.",
    )


REFUSED_REASONS = {
    "Pod": Reason.PODS_UNSCHEDULABLE,
    "RayCluster": Reason.PODS_UNSCHEDULABLE,
    "Service": Reason.ENDPOINT_PENDING,
}


def of_refusal(error: RefusedError) -> Problem:
    """The API server will not have one of the children."""
    return Problem(
        REFUSED_REASONS.get(error.kind, Reason.CHILD_REFUSED),
        f"The API server refused {error.kind} {error.name}: {error.message} Mend what it says; it is tried again.",
    )


def no_kuberay(namespace: str, forbidden: bool) -> Problem:
    """The Subnet wants KubeRay, and this cluster has no RayClusters or does not show them."""
    why = (
        f"the operator may not list RayClusters in namespace {namespace}: give it the rights that the chart gives it"
        if forbidden
        else "this cluster has no API ray.io/v1: install KubeRay 1.7 or later"
    )
    return Problem(
        Reason.KUBERAY_MISSING,
        f"spec.compute.backend of the Subnet is KubeRay, and {why}; the task goes on by itself then. Or set the back "
        "end to Pods, which needs nothing.",
    )


def no_wallet_secret(namespace: str, name: str) -> Problem:
    """The wallet's Secret is missing."""
    return Problem(
        Reason.WALLET_SECRET_NOT_FOUND,
        f'Secret "{name}" of spec.chain.walletSecret does not exist in namespace {namespace}. Create it with the owner '
        "key (0x and 64 hex digits).",
    )


def bad_wallet_key(namespace: str, name: str, error: BadKeyError | errors.BadKeystore) -> Problem:
    """The wallet's Secret holds no key."""
    return Problem(
        Reason.BAD_WALLET_KEY,
        f'Secret "{name}" in namespace {namespace}: {error}. Put the owner key there (0x and 64 hex digits).',
    )


def bad_keystore(namespace: str, name: str, error: BadKeyError | errors.BadKeystore) -> Problem:
    """The wallet's Secret holds a keystore that does not open, or no password."""
    return Problem(
        Reason.BAD_WALLET_KEY,
        f'Secret "{name}" in namespace {namespace}: {error}. Put a keystore of version 3 and its password there.',
    )


def bad_tls_secret(name: str, error: BadKeyError) -> Problem:
    """The member's TLS Secret was damaged."""
    return Problem(
        Reason.INVALID_SPEC,
        f'Secret "{name}": {error}. Delete it to have a new key made and registered.',
    )


def no_consortium(name: str, contract: str) -> Problem:
    """The chain knows no such consortium."""
    return Problem(
        Reason.CONSORTIUM_NOT_FOUND,
        f'Contract {contract} knows no consortium "{name}". Correct spec.consortium or spec.chain.contract, or create '
        "the consortium first.",
    )


def no_subnet(namespace: str, name: str) -> Problem:
    """The task names a Subnet that does not exist."""
    return Problem(
        Reason.SUBNET_NOT_FOUND,
        f'Subnet "{name}" does not exist in namespace {namespace}. Apply it, or apply the '
        "task again with the right spec.subnet.",
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
