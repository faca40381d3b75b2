"""The example's task in one process: the trainer's, codec's and validator's arithmetic without network, chain or Ray.

With the task id of a run of `covey simulate` a deal ends as there, but for the order in which updates are added. For
many deals, from the root of the repository:

    PYTHONPATH=examples/wdbc .venv/bin/python tests/unit/examples/wdbc_rounds.py --deals 40
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import make_data
import numpy as np
import torch
import yaml
from covey_api.quantity import ratio
from covey_api.task import TaskSpec
from covey_api.terms import TaskTerms
from covey_exchange.codec import CodecSpec, Residual, decode, encode
from covey_exchange.manifest import Manifest
from covey_exchange.merge import Clip, RoundMerge
from covey_exchange.seed import task_seed
from covey_trainer import baseline
from covey_trainer.executor import Evaluation, Parameters
from covey_trainer.learner import Learner
from covey_validator.incentives.book import Book
from covey_validator.incentives.helping import RoundFacts
from covey_validator.incentives.terms import Rule
from covey_validator.scoring import Scores, nano_loss
from covey_validator.track import Track
from covey_validator.verdict import Ledger, Verdict, conclude, is_accepted
from eth_utils import keccak, to_checksum_address

TASK = Path(make_data.__file__).parent / "task.yaml"
BOUNTY = 10**6


@dataclass(frozen=True)
class Outcome:
    """AUC on the common test set, and each member's part of the bounty."""

    alone: Sequence[float]
    together: float
    pooled: float
    earned: Sequence[float]
    discarded: int

    @property
    def gain(self) -> float:
        """By how much the best member alone is beaten."""
        return self.together - max(self.alone)


def terms(members: int) -> TaskTerms:
    spec = yaml.safe_load(TASK.read_text())["spec"]
    spec["members"] = {"min": members, "max": members}
    return TaskTerms.of("wdbc", TaskSpec.model_validate(spec))


def deal(out: Path, seed: int, members: int = 3) -> list[Path]:
    """Deal the records out; the folders of the members."""
    make_data.main(["--out", str(out), "--members", str(members), "--seed", str(seed)], standalone_mode=False)
    return [out / f"member-{i + 1}" for i in range(members)]


def train(task: TaskTerms, task_id: bytes, folders: Sequence[Path]) -> tuple[Parameters, list[Verdict]]:
    """Play all rounds with everybody there; the final model, and the verdict of each round."""
    seed = task_seed(task_id)
    sites = {to_checksum_address(f"0x{i + 1:040x}"): Learner(task, seed, [folder]) for i, folder in enumerate(folders)}
    codec = CodecSpec(task.compression.codec.value, ratio(task.compression.density), task.compression.value_bits)
    rate, margin = float(ratio(task.aggregation.outer_learning_rate)), ratio(task.validation.margin)
    clip = Clip(task.aggregation.clip)
    base = next(iter(sites.values())).initialised().parameters
    manifest = Manifest.from_arrays(base)
    residuals = {site: Residual(manifest) for site in sites}
    stakes = dict.fromkeys(sites, 10**6)
    rule, places = Rule(task.incentives.epoch_rounds), {site: place for place, site in enumerate(sites)}
    book, track = Book.open(rule, stakes, places, BOUNTY, task.rounds.count), Track(rule)
    verdicts: list[Verdict] = []
    for number in range(1, task.rounds.count + 1):
        before = copy.deepcopy(residuals)
        payloads = {
            site: encode(learner.train(base, number).delta, residuals[site], codec, manifest)
            for site, learner in sites.items()
        }
        updates = [(s, decode(p, codec, manifest, s)) for s, p in payloads.items()]
        merge = RoundMerge(base, updates, rate, clip, book.clips)
        candidate = merge.candidate()
        models = {"base": base, "candidate": candidate} | {site: merge.without(site) for site in sites}
        scores = {site: _scores(learner, models) for site, learner in sites.items()}
        facts = RoundFacts(frozenset(sites), scores, track.copies(merge))
        ledger = Ledger(stakes, margin, book)
        track.take(number, merge, is_accepted(ledger, scores))
        none = (bytes(32), bytes(32))
        verdict = conclude(task_id, number, ledger, facts, none, none, track.gram())
        verdicts.append(verdict)
        book = verdict.book
        if verdict.result.accepted:
            base = candidate
            for residual in residuals.values():
                residual.settle(accepted=True)
        else:
            residuals = before
    return base, verdicts


def _scores(learner: Learner, models: Mapping[str, Parameters]) -> Scores:
    found: list[Evaluation] = learner.evaluate(list(models.values()), metrics=False)
    base, candidate, *without = (nano_loss(e.loss_sum, e.examples) for e in found)
    return Scores(base, candidate, dict(zip(list(models)[2:], without, strict=True)))


def play(out: Path, seed: int, members: int = 3, task_id: bytes | None = None) -> Outcome:
    """One deal: train together, alone and pooled, and test."""
    torch.set_num_threads(1)  # more get in each other's way on a model this small
    task, folders = terms(members), deal(out, seed, members)
    task_id = task_id or keccak(text=f"{seed}")
    model, verdicts = train(task, task_id, folders)
    names = {folder.name: folder for folder in folders}
    alone, together, pooled = baseline.compare(task, task_seed(task_id), names, model, out / "test")
    return Outcome(
        [each.metrics["auc"] for each in alone.values()],
        together.metrics["auc"],
        pooled.metrics["auc"],
        [amount / BOUNTY for amount in verdicts[-1].book.credited.values()],
        sum(not verdict.result.accepted for verdict in verdicts),
    )


@click.command()
@click.option("--deals", default=40, show_default=True)
@click.option("--members", default=3, show_default=True)
def main(deals: int, members: int) -> None:
    """Print what each of many deals comes to, and the worst."""
    found: list[Outcome] = []
    for seed in range(deals):
        with tempfile.TemporaryDirectory() as folder:
            one = play(Path(folder), seed, members)
        found.append(one)
        print(
            f"{seed:3}  alone {' '.join(f'{auc:.4f}' for auc in one.alone)}  together {one.together:.4f}"
            f"  pooled {one.pooled:.4f}  earned {' '.join(f'{share:.0%}' for share in one.earned)}"
            f"  discarded {one.discarded}",
            flush=True,
        )
    print(f"beats every member alone in {sum(one.gain >= 0 for one in found)} of {deals}; least gain", end=" ")
    print(f"{min(one.gain for one in found):+.4f}; mean alone {np.mean([one.alone for one in found]):.4f}", end=" ")
    print(f"together {np.mean([one.together for one in found]):.4f} pooled {np.mean([o.pooled for o in found]):.4f};")
    print(f"furthest below pooled {max(one.pooled - one.together for one in found):.4f}", end=", ")
    print(f"above {max(one.together - one.pooled for one in found):.4f}")


if __name__ == "__main__":
    main()
