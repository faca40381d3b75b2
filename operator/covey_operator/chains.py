"""All chains that this operator's Subnets use: one mirror per set of contracts, one wallet per key."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from covey_api.subnet import ChainSpec
from covey_chain.signers import Signer
from covey_chain.wallet import Wallet

from covey_operator.kinds import Key
from covey_operator.metrics import Metrics
from covey_operator.mirror import Mirror, MirrorKey


class Chains:
    """Mirrors run in the given group: one that dies of anything but a chain error ends the operator."""

    def __init__(
        self,
        group: asyncio.TaskGroup,
        wake: Callable[[Key, float], None],
        poll_seconds: float,
        metrics: Metrics,
    ) -> None:
        self._group = group
        self._wake = wake
        self._poll_seconds = poll_seconds
        self._metrics = metrics
        self._mirrors: dict[MirrorKey, tuple[Mirror, asyncio.Task[None]]] = {}
        self._wallets: dict[tuple[MirrorKey, Signer], Wallet] = {}

    @property
    def stalled_seconds(self) -> float:
        """Of the mirror that has not moved for longest."""
        return max((mirror.stalled_seconds for mirror, _ in self._mirrors.values()), default=0.0)

    def mirror(self, spec: ChainSpec) -> Mirror:
        """The mirror for a Subnet's chain; started at first use."""
        key = MirrorKey(spec.rpc_urls, spec.chain_id, spec.contract.lower(), spec.confirmations)
        if key not in self._mirrors:
            mirror = Mirror(key, self._poll_seconds, self._metrics, self._wake)
            self._mirrors[key] = (mirror, self._group.create_task(mirror.run(), name=f"mirror {key.contract}"))
        return self._mirrors[key][0]

    async def wallet(self, spec: ChainSpec, signer: Signer) -> Wallet:
        """The wallet of a signer; one for all who use the signer, so that nonces never collide.

        Raises:
            ChainError: the chain cannot be reached.
        """
        mirror = self.mirror(spec)
        if (mirror.key, signer) not in self._wallets:
            chain = await mirror.chain()
            self._wallets[mirror.key, signer] = Wallet(chain, signer, spec.confirmations)
        return self._wallets[mirror.key, signer]

    async def forget(self, subscriber: Key) -> None:
        """An object is gone: wake it no more, and end mirrors that nobody needs."""
        for key, (mirror, task) in list(self._mirrors.items()):
            mirror.forget(subscriber)
            if mirror.idle:
                task.cancel()
                del self._mirrors[key]
                self._wallets = {at: wallet for at, wallet in self._wallets.items() if at[0] != key}
                await mirror.close()

    async def close(self) -> None:
        """End all mirrors."""
        for mirror, task in self._mirrors.values():
            task.cancel()
            await mirror.close()
        self._mirrors.clear()
        self._wallets.clear()
