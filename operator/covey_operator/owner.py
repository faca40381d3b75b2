"""Who signs for a member: the key or the keystore in its Secret, or a signer outside of the cluster."""

from __future__ import annotations

import asyncio
from functools import lru_cache

from covey_api.subnet import ChainSpec
from covey_chain.errors import BadKeystore
from covey_chain.signers import KeySigner, RemoteSigner, Signer, open_keystore

from covey_operator import failures
from covey_operator.keys import BadKeyError, read_entry, wallet_key
from covey_operator.kinds import SECRET
from covey_operator.plan.model import Problem
from covey_operator.shared import SharedReads

# Opening one takes a second, and every pass asks.
_opened = lru_cache(maxsize=64)(open_keystore)


async def signer_of(reads: SharedReads, namespace: str, chain: ChainSpec) -> Signer | Problem:
    """The owner's signer, or what is wrong with its Secret; two that sign alike are equal."""
    if chain.signer is not None:
        return RemoteSigner(chain.signer.url, chain.signer.address)
    reference = chain.wallet_secret
    assert reference is not None, "a rule of the API"
    secret = await reads.get(SECRET, namespace, reference.name)
    if secret is None:
        return failures.no_wallet_secret(namespace, reference.name)
    try:
        content = read_entry(secret, reference.key)
        if reference.password_key is None:
            return KeySigner(wallet_key(content)[0])
        password = read_entry(secret, reference.password_key).decode(errors="replace").rstrip("\r\n")
        return await asyncio.to_thread(_opened, content.decode(errors="replace"), password)
    except (BadKeyError, BadKeystore) as error:
        tell = failures.bad_wallet_key if reference.password_key is None else failures.bad_keystore
        return tell(namespace, reference.name, error)
