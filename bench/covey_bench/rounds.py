"""The rounds of a task in one process: the trainer's, codec's and validator's arithmetic without network or chain.

Everybody is there in every round and scores with the same stake. Updates become bytes and are decoded again.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from covey_api.quantity import ratio
from covey_api.terms import TaskTerms
from covey_exchange.codec import Residual, encode
from covey_exchange.manifest import Manifest
from covey_exchange.merge import Clip, RoundMerge
from covey_trainer.executor import Parameters
from covey_trainer.learner import Learner
from covey_validator import scoring
from covey_validator.scoring import Scores, nano_loss
from covey_validator.task import codec_of


@dataclass(frozen=True)
class Round:
    """What a round leaves behind.

    Attributes:
        number: from 1.
        model: the candidate if it was accepted, otherwise the base.
        accepted: whether the holdouts found the candidate good enough.
        payload_bytes: of all sites' updates.
    """

    number: int
    model: Parameters
    accepted: bool
    payload_bytes: int


def play(terms: TaskTerms, seed: int, folders: Sequence[Path], *, feedback: bool = True) -> Iterator[Round]:
    """All rounds of a task.

    Args:
        terms: of the task.
        seed: of the task: first model, holdouts, order of batches.
        folders: one for each site, with its records.
        feedback: False forgets after each round what was not sent, to show what error feedback is good for.
    """
    sites = {f"0x{number:040x}": Learner(terms, seed, [folder]) for number, folder in enumerate(folders, 1)}
    stakes = dict.fromkeys(sites, 1)
    spec, clip = codec_of(terms.compression), Clip(terms.aggregation.clip)
    rate, margin = float(ratio(terms.aggregation.outer_learning_rate)), ratio(terms.validation.margin)
    model = next(iter(sites.values())).initialised().parameters
    manifest = Manifest.from_arrays(model)
    residuals = {site: Residual(manifest) for site in sites}
    losses = _losses(sites, model)
    for number in range(1, terms.rounds.count + 1):
        now = spec.at_round(number)
        if not feedback:
            residuals = {site: Residual(manifest) for site in sites}
        before = copy.deepcopy(residuals)
        payloads = [
            (site, encode(learner.train(model, number).delta, residuals[site], now, manifest))
            for site, learner in sites.items()
        ]
        candidate = RoundMerge.of_payloads(model, payloads, now, rate, clip).candidate()
        after = _losses(sites, candidate)
        scores = {site: Scores(losses[site], after[site], {}) for site in sites}
        accepted = scoring.is_improvement(scores, stakes, margin)
        if accepted:
            model, losses = candidate, after
            for residual in residuals.values():
                residual.settle(accepted=True)
        else:
            residuals = before
        yield Round(number, model, accepted, sum(len(payload) for _, payload in payloads))


def _losses(sites: Mapping[str, Learner], model: Parameters) -> dict[str, int]:
    found = {site: learner.evaluate([model], metrics=False)[0] for site, learner in sites.items()}
    return {site: nano_loss(evaluated.loss_sum, evaluated.examples) for site, evaluated in found.items()}
