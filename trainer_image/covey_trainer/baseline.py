"""What training together is compared with: each member alone, and all records in one place.

Both baselines start from the task's own first model and take as many optimiser steps as a site takes in the whole task,
with the same optimiser, batch order and local holdout left out. The pooled one sees as many records in each step as all
members together. A task throws rounds away that its holdouts find worse; so a baseline may stop early, too: it ends
with the model of the round that did best on its own holdout, so that nobody is made to look bad by overfitting.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from covey_api.terms import TaskTerms

from covey_trainer.executor import Evaluation, Parameters
from covey_trainer.learner import Learner
from covey_trainer.network import Network, records, size
from covey_trainer.program import load


def alone(terms: TaskTerms, seed: int, member: Path) -> Parameters:
    """The model that one member makes of its own records.

    Raises:
        TrainerError: as in the task itself.
    """
    return _train(terms, Learner(terms, seed, [member]))


def pooled(terms: TaskTerms, seed: int, members: Sequence[Path]) -> Parameters:
    """The model that somebody who held all members' records would make.

    Raises:
        TrainerError: as in the task itself.
    """
    return _train(terms, Learner(terms, seed, members, batch_factor=len(members)))


def test(terms: TaskTerms, parameters: Parameters, directory: Path) -> Evaluation:
    """Loss and the program's metrics of a model on all records of a folder.

    Raises:
        TrainerError: as in the task itself.
    """
    program = load(terms.program.entrypoint, terms.program.config)
    data = records(program, [directory])
    network = Network(program, 0, torch.device("cpu"))
    return network.evaluate(parameters, data, np.arange(size(data)), metrics=True)


def compare(
    terms: TaskTerms, seed: int, members: Mapping[str, Path], together: Parameters, directory: Path
) -> tuple[dict[str, Evaluation], Evaluation, Evaluation]:
    """Everybody on one common test set.

    Args:
        terms: of the task.
        seed: of the task.
        members: name -> folder of the member's records.
        together: the task's final model.
        directory: folder of the test records.

    Returns:
        (member -> alone, together, pooled).
    """
    torch.set_num_threads(1)  # as at the sites; on a busy machine the threads of small models only wait for each other
    each = {name: test(terms, alone(terms, seed, member), directory) for name, member in members.items()}
    everything = pooled(terms, seed, list(members.values()))
    return each, test(terms, together, directory), test(terms, everything, directory)


def _train(terms: TaskTerms, learner: Learner) -> Parameters:
    """The round's model that has the least loss on the learner's holdout; without a holdout the last one."""
    parameters = best = learner.initialised().parameters
    least = math.inf
    for round_number in range(1, terms.rounds.count + 1):
        delta = learner.train(parameters, round_number).delta
        parameters = {name: array - delta[name] for name, array in parameters.items()}
        [found] = learner.evaluate([parameters], metrics=False)
        if found.loss_sum <= least:
            best, least = parameters, found.loss_sum
    return best
