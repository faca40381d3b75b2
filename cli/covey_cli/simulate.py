"""`covey simulate`: a whole task on this machine, with real contracts, keys, rings and signatures."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from covey_api.quantity import duration_seconds, token_amount, token_units
from covey_api.task import TaskSpec
from covey_api.terms import TaskTerms
from covey_chain.account import accounts
from covey_chain.anvil import FUNDED_KEYS, AnvilMissingError, anvil
from covey_chain.client import Chain
from covey_chain.deploy import deploy_all, mint
from covey_chain.types import ZERO_ADDRESS, Role
from covey_chain.wallet import Wallet
from covey_exchange.manifest import model_digest
from covey_exchange.seed import task_seed
from covey_trainer import baseline
from covey_trainer.executor import Parameters
from eth_utils.crypto import keccak
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from safetensors.numpy import load_file

from covey_cli.errors import CommandError
from covey_cli.site import Site

_DECIMALS = 18
_STAKE = 10_000
_TASK_SECONDS = 86_400
_POLL_SECONDS = 0.3
_NAMES = ("north", "south", "east", "west")

console = Console(highlight=False)


@dataclass(frozen=True)
class Task:
    """The task file, and what lies beside it."""

    name: str
    spec: TaskSpec
    directory: Path

    @classmethod
    def read(cls, path: Path, members: int, rounds: int | None) -> Task:
        """Read a task and fit it to this run.

        Raises:
            CommandError: not a FederatedTask; names the field.
        """
        try:
            document = yaml.safe_load(path.read_text())
        except yaml.YAMLError as error:
            raise CommandError(f"{path} is not YAML: {error}") from error
        if not isinstance(document, dict) or document.get("kind") != "FederatedTask":
            raise CommandError(f"{path} does not hold a FederatedTask")
        spec = document.get("spec") or {}
        spec["members"] = {**spec.get("members", {}), "min": members, "max": members}
        run = spec.setdefault("rounds", {})
        run["minUpdates"] = min(run.get("minUpdates", 2), members)
        if rounds is not None:
            run["count"] = rounds
        try:
            return cls(str(document["metadata"]["name"]), TaskSpec.model_validate(spec), path.parent)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise CommandError(f"{path}: spec.{problems}") from error


async def simulate_all(
    path: Path, *, members: int, data: Path | None, seeds: int, rounds: int | None, keep: Path | None
) -> bool:
    """Run the task once for each seed and print what came out; True if all members agree each time."""
    task = Task.read(path, members, rounds)
    sys.path.insert(0, str(task.directory.resolve()))
    fine = True
    with ExitStack() as stack:
        for seed in range(seeds):
            root = keep / f"seed-{seed}" if keep else Path(stack.enter_context(tempfile.TemporaryDirectory()))
            root.mkdir(parents=True, exist_ok=True)
            records = data or _make_data(task, root / "data", members, seed)
            fine &= await _Simulation(task, root, records, members, seed).run()
    return fine


def _make_data(task: Task, out: Path, members: int, seed: int) -> Path:
    maker = task.directory / "make_data.py"
    if not maker.exists():
        raise CommandError(f"{task.directory} has no make_data.py: say with --data where the members' records are")
    command = [sys.executable, maker, "--out", out, "--members", str(members), "--seed", str(seed)]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandError(f"{maker} failed:\n{done.stderr}")
    return out


class _Simulation:
    """One run."""

    def __init__(self, task: Task, root: Path, records: Path, members: int, seed: int) -> None:
        self.task, self.records, self.seed = task, records, seed
        if members >= len(FUNDED_KEYS):
            raise CommandError(f"at most {len(FUNDED_KEYS) - 1} members can be simulated")
        names = _NAMES if members <= len(_NAMES) else [f"member-{i + 1}" for i in range(members)]
        self.sites = [
            Site(names[i], FUNDED_KEYS[i + 1], root / names[i], records / f"member-{i + 1}") for i in range(members)
        ]
        for site in self.sites:
            if not site.data.is_dir():
                raise CommandError(f"{site.data} is missing: {records} needs a folder for each of {members} members")

    async def run(self) -> bool:
        began = time.monotonic()
        try:
            with anvil(tick_seconds=2) as node:
                deployment = await deploy_all(node.url, node.keys[0])
                chain = await Chain.connect(node.url, node.chain_id, deployment.settlement)
                try:
                    self.say(began, "chain up, contracts deployed")
                    wallets = [Wallet(chain, site.owner_key) for site in self.sites]
                    before = await self._enroll(chain, node.url, node.keys[0], deployment.token, wallets)
                    self.say(began, f"{len(wallets)} members registered and staked {_STAKE} DEV each")
                    task_id, terms = await self._publish(chain, deployment.token, wallets)
                    self.say(began, f"task {self.task.name} started as 0x{task_id.hex()[:8]}…")
                    await self._train(began, chain, task_id, wallets)
                    return await self._finish(began, chain, deployment.token, task_id, terms, wallets, before)
                finally:
                    await chain.close()
        except AnvilMissingError as error:
            raise CommandError(str(error)) from error

    def _finished(self) -> list[bool]:
        # Every site is asked, so that a failure anywhere is seen at once.
        return [site.finished() for site in self.sites]

    def say(self, began: float, text: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:6.1f} s[/dim]  {text}")

    async def _enroll(self, chain: Chain, url: str, key: str, token: str, wallets: list[Wallet]) -> int:
        bounty = token_units(self.task.spec.bounty.amount, _DECIMALS)
        for i, wallet in enumerate(wallets):
            funds = token_units(str(_STAKE), _DECIMALS) + (bounty if i == 0 else 0)
            await mint(url, key, token, wallet.address, funds)
        await wallets[0].create_consortium("simulated", token, 1)
        consortium = keccak(text="simulated")

        async def enroll(site: Site, wallet: Wallet) -> None:
            tls_key_hash, certificate = site.make_keys()
            roles = Role.PLANNER | Role.TRAINER | Role.VALIDATOR
            await wallet.join(consortium, roles, tls_key_hash, "127.0.0.1", bytes(32), certificate)
            await wallet.stake_up_to(consortium, token, token_units(str(_STAKE), _DECIMALS))

        await asyncio.gather(*map(enroll, self.sites, wallets))
        return await self._money(chain, token, wallets)

    async def _money(self, chain: Chain, token: str, wallets: list[Wallet]) -> int:
        holders = [w.address for w in wallets] + [chain.registry_contract.address, chain.market_contract.address]
        return sum([await chain.token_balance(token, holder) for holder in holders])

    async def _publish(self, chain: Chain, token: str, wallets: list[Wallet]) -> tuple[bytes, TaskTerms]:
        spec = self.task.spec
        terms = TaskTerms.of(self.task.name, spec)
        now = await chain.timestamp()
        accept_by = now + duration_seconds(spec.members.accept_within)
        task_id, _ = await wallets[0].publish(
            consortium=keccak(text="simulated"),
            spec=terms.canonical(),
            spec_hash=keccak(terms.canonical()),
            token=token,
            bounty=token_units(spec.bounty.amount, _DECIMALS),
            min_members=spec.members.min,
            max_members=spec.members.max,
            rounds=spec.rounds.count,
            accept_by=accept_by,
            deadline=accept_by + _TASK_SECONDS,
            answer_window=duration_seconds(spec.rounds.answer_window),
            fallback_window=duration_seconds(spec.rounds.fallback_window),
            appeal_window=spec.incentives.appeal_window_seconds,
            auditor=spec.incentives.auditor or ZERO_ADDRESS,
            # The seed decides the task id, and that the split into training and holdout.
            salt=keccak(text=f"{self.task.name}/{self.seed}"),
        )

        async def accept(site: Site, wallet: Wallet) -> None:
            wallet_session = Wallet(chain, "0x" + site.session_key.hex())
            await wallet.fund(wallet_session.address, 10**16)
            await wallet.accept(task_id, Role.TRAINER | Role.VALIDATOR, wallet_session.address, site.endpoint)

        await asyncio.gather(*map(accept, self.sites, wallets))
        await wallets[0].start(task_id)
        return task_id, terms

    async def _train(self, began: float, chain: Chain, task_id: bytes, wallets: list[Wallet]) -> None:
        shown = ""
        timeout = aiohttp.ClientTimeout(total=2)
        async with aiohttp.ClientSession(timeout=timeout) as client:
            try:
                for site, wallet in zip(self.sites, wallets, strict=True):
                    await site.start(chain, task_id, self.task.name, wallet.address, self.task.directory.resolve())
                while not all(self._finished()):
                    states = [await site.status(client) for site in self.sites]
                    line = _progress(states, self.task.spec.rounds.count)
                    if line and line != shown:
                        self.say(began, line)
                        shown = line
                    await asyncio.sleep(_POLL_SECONDS)
            finally:
                await asyncio.gather(*(site.stop() for site in self.sites))

    async def _finish(
        self,
        began: float,
        chain: Chain,
        token: str,
        task_id: bytes,
        terms: TaskTerms,
        wallets: list[Wallet],
        before: int,
    ) -> bool:
        reports = [site.report() for site in self.sites]
        for wallet, report in zip(wallets, reports, strict=True):
            if int(report["reward"]):
                proof = [bytes.fromhex(entry.removeprefix("0x")) for entry in report["rewardProof"]]
                await wallet.claim(task_id, wallet.address, int(report["reward"]), proof)
        settled = await chain.settlement(task_id)
        models = [load_file(site.directory / "output" / self.task.name / "model.safetensors") for site in self.sites]
        digests = {model_digest(model) for model in models}
        agreed = digests == {settled.model_digest} and settled.last
        conserved = await self._money(chain, token, wallets) == before
        self.say(began, f"settled at round {settled.round} of {terms.rounds.count}; rewards claimed")
        await self._print(chain, task_id, terms, models[0], wallets)
        _verdict(agreed, f"the same model at all members and on chain: 0x{settled.model_digest.hex()}")
        _verdict(conserved, "no token was made or lost")
        return agreed and conserved

    async def _print(
        self, chain: Chain, task_id: bytes, terms: TaskTerms, model: Parameters, wallets: list[Wallet]
    ) -> None:
        members = {site.name: site.data for site in self.sites}
        published = await chain.task(task_id)
        assert published is not None
        books = await accounts(chain, published)
        test = self.records / "test"
        metric = terms.validation.metric if terms.validation.metric != "loss" else "auc"
        alone, together, pooled = baseline.compare(terms, task_seed(task_id), members, model, test)
        table = Table(title=f"{self.task.name}, seed {self.seed}", title_justify="left")
        for heading in (
            "member",
            f"{metric} alone",
            f"{metric} together",
            f"{metric} pooled",
            "sent",
            "ratio",
        ):
            table.add_column(heading, justify="left" if heading == "member" else "right")
        ledger = Table(title="ledger, in whole tokens", title_justify="left")
        for heading in ("member", "stake", "held", "refunded", "slashed", "earned", "net"):
            ledger.add_column(heading, justify="left" if heading == "member" else "right")
        for site, wallet in zip(self.sites, wallets, strict=True):
            status = site.last_status
            book = books[wallet.address]
            table.add_row(
                site.name,
                *(f"{e.metrics[metric]:.4f}" for e in (alone[site.name], together, pooled)),
                f"{status.get('bytesSent', 0) / 1e6:.2f} MB",
                f"{status.get('rawBytes', 0) / max(1, status.get('payloadBytes', 0)):.0f}x",
            )
            amounts = (book.stake, book.held, book.refunded, book.slashed, book.earned, book.net)
            ledger.add_row(site.name, *map(_tokens, amounts))
        console.print(table)
        console.print(ledger)


def _tokens(amount: int) -> str:
    return f"{float(token_amount(amount, _DECIMALS)) if amount >= 0 else -float(token_amount(-amount, _DECIMALS)):.2f}"


def _progress(states: list[dict[str, Any]], rounds: int) -> str:
    known = [state for state in states if state]
    if not known:
        return ""
    slowest = min(known, key=lambda state: int(state.get("round") or 0))
    loss = slowest.get("loss")
    text = f"round {slowest.get('round') or 0}/{rounds}"
    return text + (f"  loss {float(loss):.4f}" if loss not in (None, "") else "")


def _verdict(fine: bool, claim: str) -> None:
    console.print(f"[green]✓[/green] {claim}" if fine else f"[red]✗ not true: {claim}[/red]", soft_wrap=True)
