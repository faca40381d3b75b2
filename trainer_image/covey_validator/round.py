"""One round as a pure machine: what this site does next, given what it has heard.

Collect updates -> agree which count -> merge -> score, commit, reveal -> agree which scores count -> sign the result
-> certified once more than 2/3 of the stake signed the same. No I/O and no clock; the shell (`loop`) carries actions
out and brings events in. Own messages leave as `Send` and come back as `Heard` after they were stored, so a restart is
`resume` with the stored messages, then `Begin`.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import replace

from covey_api.status import Reason
from covey_chain.types import (
    Proposal,
    RoundResult,
    ScoreCommit,
    ScoreReveal,
    Step,
    UpdateHeader,
    Vote,
    round_of,
)
from covey_exchange import agreement, agreement_state
from covey_exchange import agreement_types as voting
from covey_exchange.envelope import Message
from eth_utils import keccak

from covey_validator import scoring, selection
from covey_validator.incentives.helping import RoundFacts
from covey_validator.round_types import (
    Absorb,
    Accuse,
    Action,
    Begin,
    CatchUp,
    Certified,
    Deadline,
    Elapsed,
    Encode,
    EpochBegan,
    Evaluate,
    Evaluated,
    Event,
    Fail,
    Fetch,
    Heard,
    KeepScores,
    Left,
    Merge,
    Merged,
    Phase,
    Send,
    SetTimer,
    Setting,
    State,
    Train,
    Trained,
    UpdateArrived,
    ViewTimer,
    Weigh,
    Weighed,
)
from covey_validator.scoring import Scores
from covey_validator.verdict import conclude, is_accepted


def resume(setting: Setting, stored: Iterable[Message]) -> State:
    """The state before `Begin`, from the messages of this round that were stored (none, in a fresh round)."""
    messages = list(stored)
    own: dict[Step, list[voting.Received]] = {Step.UPDATES: [], Step.SCORES: []}
    for message in messages:
        if message.site == setting.site and isinstance(message.body, Proposal | Vote):
            own[Step(message.body.step)].append(voting.Received(message.body, message.envelope.signature))
    agreements = {s: agreement_state.resume(setting.instance(s), own[s], setting.epochs, setting.left) for s in Step}
    state = State(setting, agreements, agreements[Step.UPDATES].epoch, setting.left)
    for message in messages:
        state, _ = step(state, Heard(message))
    return state


def step(state: State, event: Event) -> tuple[State, list[Action]]:
    """Advance one site's view of a round by one event.

    Returns:
        The new state and what the shell has to do, in this order.
    """
    run = _Run(state.copy())
    run.take(event)
    if run.state.began:
        run.advance()
    return run.state, run.actions


class _Run:
    """One call of `step`."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.setting = state.setting
        self.actions: list[Action] = []

    # --- events -----------------------------------------------------------------------------------------------------

    def take(self, event: Event) -> None:
        state = self.state
        match event:
            case Begin():
                state.began = True
                self.actions.append(SetTimer(Deadline.UPDATES))
                if self.setting.site in self.setting.trainers and self.setting.site not in state.updates.values():
                    self.actions.append(Train())
            case Trained(samples):
                if self.setting.site not in state.updates.values() and self._once("encode"):
                    self.actions.append(Encode(samples) if state.selected is None else Absorb())
            case Heard(message):
                self._hear(message)
            case UpdateArrived(message):
                self._take_update(message)
            case Merged(candidate, copies):
                state.candidate, state.copies = candidate, copies
            case Weighed(gram, docket):
                state.gram, state.docket = gram, docket
            case Evaluated(scores):
                state.scores = scores.encode() if scores else scoring.ABSTENTION
            case Elapsed(timer) if isinstance(timer, ViewTimer):
                self._feed(timer.step, voting.Timeout(timer.stage, timer.view))
            case Elapsed(timer) if isinstance(timer, Deadline):
                state.elapsed.add(timer)
            case Left(epoch):
                state.left = max(state.left, epoch)
                for of in Step:
                    self._feed(of, voting.Leave(epoch))
            case EpochBegan(epoch) if epoch.number == state.epoch.number + 1:
                self._begin(epoch)

    def _begin(self, epoch: voting.Epoch) -> None:
        state = self.state
        state.epoch = epoch
        for of in Step:
            self._feed(of, voting.Enter(epoch))
            # What was too few scores may be enough of those that count now.
            state.unjudged |= {(of, value) for value, valid in state.agreements[of].judged.items() if not valid}

    def _hear(self, message: Message) -> None:
        state, body, site = self.state, message.body, message.site
        if body.task_id != self.setting.task_id or round_of(body) != self.setting.round:
            raise ValueError("message of another round")
        match body:
            case Proposal():
                state.selections[body.value] = message.envelope.attachment
                self._feed(Step(body.step), voting.Received(body, message.envelope.signature))
            case Vote():
                self._feed(Step(body.step), voting.Received(body, message.envelope.signature))
            case UpdateHeader():
                self._note_header(message, body)
            case ScoreCommit() if site in self.setting.validators:
                state.commits[site] = state.commits.get(site, frozenset()) | {body.commitment}
            case ScoreReveal() if site in self.setting.validators:
                state.reveals[message.digest] = message
            case RoundResult():
                state.results[message.digest] = state.results.get(message.digest, {}) | {site: message}

    def _note_header(self, message: Message, header: UpdateHeader) -> None:
        known = self.state.headers.setdefault((message.site, header.attempt), message)
        if known.body != header and isinstance(known.body, UpdateHeader) and self._once(f"accused {message.site}"):
            said = (known.body, known.envelope.signature), (header, message.envelope.signature)
            self.actions.append(Accuse(*said))
        if header.base != self.setting.base:
            self.state.strangers[message.site] = header.base

    def _take_update(self, message: Message) -> None:
        header = message.body
        assert isinstance(header, UpdateHeader)
        if header.round == self.setting.round:
            self._note_header(message, header)
        fits = header.base == self.setting.base and header.codec == self.setting.codec
        if header.round == self.setting.round and fits and header.site in self.setting.trainers:
            self.state.updates[message.digest] = header.site

    # --- rules ------------------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Fire every rule that applies; each one enables the next at most."""
        self._check_bases()
        self._judge_waiting()
        self._close_updates()
        self._merge()
        self._evaluate()
        self._commit()
        self._reveal()
        self._judge_waiting()
        self._close_scores()
        self._conclude()
        self._certify()

    def _check_bases(self) -> None:
        """Sites that start from different models can never merge; say so as soon as no quorum is left without them."""
        s, strangers = self.setting, self.state.strangers
        others = self.state.weight(s.ledger.stakes.keys() - strangers.keys())
        if not strangers or self.state.epoch.is_quorum(others):
            return
        if (s.site in s.trainers and s.site not in self.state.updates.values()) or not self._once("mismatch"):
            return  # only our own header tells the others
        theirs = ", ".join(f"{site}: 0x{base.hex()}" for site, base in sorted(strangers.items()))
        message = (
            f"Sites start round {s.round} from different models. Ours has digest 0x{s.base.hex()}; {theirs}. Make the "
            "program initialise its parameters from the seed that it is given, in float32 on the CPU, and use the same "
            "image digest at every site."
        )
        self.actions.append(Fail(Reason.BASE_MODEL_MISMATCH, message))

    def _close_updates(self) -> None:
        held = self._one_a_site(self.state.updates)
        over = Deadline.UPDATES in self.state.elapsed or held.keys() >= self._waited_for(self.setting.trainers)
        if self.state.selected is None and over and len(held) >= self.setting.min_updates:
            self._propose(Step.UPDATES, held)
            self._enter(Phase.AGREEING_UPDATES)

    def _merge(self) -> None:
        certificate = self.state.agreements[Step.UPDATES].certificate
        if certificate is not None and self._once("merge"):
            self.state.selected = selection.decode(self.state.selections[certificate.value])
            self.actions.append(Merge(self.state.selected))
            self._enter(Phase.MERGING)

    def _evaluate(self) -> None:
        if self.state.candidate is None or self.state.selected is None or not self._once("evaluate"):
            return
        self.actions.append(SetTimer(Deadline.COMMITS))
        if self.setting.site in self.setting.validators:
            self.actions.append(Evaluate(tuple(self.state.selected)))
            self._enter(Phase.EVALUATING)

    def _commit(self) -> None:
        scores = self.state.scores
        if scores is None or self.state.candidate is None or not self._once("commit"):
            return
        if self.setting.site not in self.state.commits:
            s = self.setting
            bound = scoring.commitment(s.task_id, s.round, s.site, s.salt, keccak(scores))
            self.actions += [KeepScores(scores), Send(ScoreCommit(s.task_id, s.round, s.site, bound))]
        self._enter(Phase.SCORING)

    def _reveal(self) -> None:
        state, s = self.state, self.setting
        if Deadline.COMMITS in state.elapsed and self._once("reveal deadline"):
            self.actions.append(SetTimer(Deadline.REVEALS))
        if s.site not in state.commits or state.scores is None:
            return
        closed = state.commits.keys() >= self._waited_for(s.validators) or Deadline.COMMITS in state.elapsed
        revealed = any(message.site == s.site for message in state.reveals.values())
        if closed and not revealed and self._once("reveal"):
            self.actions.append(
                Send(ScoreReveal(s.task_id, s.round, s.site, s.salt, keccak(state.scores)), state.scores)
            )

    def _close_scores(self) -> None:
        state = self.state
        if state.selected is None or state.agreements[Step.SCORES].certificate is not None:
            return
        held = self._one_a_site({d: m.site for d, m in state.reveals.items() if self._scores_of(m) is not None})
        opened = held.keys() >= state.commits.keys() and Deadline.COMMITS in state.elapsed
        over = opened or Deadline.REVEALS in state.elapsed or held.keys() >= self._waited_for(self.setting.validators)
        if over and self._is_majority(set(held)):
            self._propose(Step.SCORES, held)
            self._enter(Phase.AGREEING_SCORES)

    def _conclude(self) -> None:
        state, s = self.state, self.setting
        certificate = state.agreements[Step.SCORES].certificate
        epoch = state.epoch.number
        if certificate is None or state.candidate is None or state.selected is None:
            return
        judges = selection.decode(state.selections[certificate.value])
        read = {site: self._scores_of(state.reveals[digest]) for site, digest in judges.items()}
        scores = {site: found for site, found in read.items() if isinstance(found, Scores)}
        if not scores and judges.keys() >= self._waited_for(s.validators):
            if self._once("nobody scores"):
                self.actions.append(Fail(Reason.HOLDOUT_TOO_SMALL, _NOBODY_SCORES))
            return
        facts = RoundFacts(frozenset(state.selected), scores, state.copies)
        accepted = is_accepted(s.ledger, scores)
        if s.ledger.book.closes(s.round, facts, accepted) and state.gram is None:
            if self._once("weigh"):
                self.actions.append(Weigh(accepted, s.ledger.book.hears(facts)))
            return
        if not self._once(f"in {epoch}"):
            return
        roots = (selection.value(selection.encode(state.selected)), certificate.value)
        models = (s.base, state.candidate)
        weighed = state.gram, epoch, state.docket
        state.verdict = conclude(s.task_id, s.round, s.ledger, facts, models, roots, *weighed)
        said = any(
            message.site == s.site and message.body == state.verdict.result
            for by_site in state.results.values()
            for message in by_site.values()
        )
        if not said and state.left <= epoch and s.site in state.active:
            self.actions.append(Send(state.verdict.result))
        self._enter(Phase.CERTIFYING)

    def _certify(self) -> None:
        verdict = self.state.verdict
        for signers in self.state.results.values():
            messages = tuple(message for _, message in sorted(signers.items()))
            result = messages[0].body
            assert isinstance(result, RoundResult)
            epoch = self.state.epoch_of(result.epoch)
            if epoch is None or not epoch.is_quorum(sum(epoch.weights.get(site, 0) for site in signers)):
                continue
            if verdict is not None and replace(verdict.result, epoch=result.epoch) == result:
                if self._once("certified"):
                    counted = tuple(message for message in messages if message.site in epoch.weights)
                    self.actions.append(Certified(replace(verdict, result=result), counted))
                    self._enter(Phase.CERTIFIED)
            elif self._once("catch up"):
                self.actions.append(CatchUp())

    # --- agreement --------------------------------------------------------------------------------------------------

    def _propose(self, of: Step, entries: dict[str, bytes]) -> None:
        if self.state.proposed.get(of) == entries:
            return
        self.state.proposed[of] = entries
        data = selection.encode(entries)
        value = selection.value(data)
        self.state.selections[value] = data
        if self.state.agreements[of].candidate != value:
            self._feed(of, voting.Candidate(value))
        if not self.state.agreements[of].started:
            self._feed(of, voting.Start())

    def _feed(self, of: Step, event: voting.Event) -> None:
        self.state.agreements[of], actions = agreement.step(self.state.agreements[of], event)
        for action in actions:
            match action:
                case voting.Sign(message):
                    if "catch up" in self.state.done:
                        continue  # the round is decided; whoever has overlooked it must not decide it anew
                    attached = self.state.selections[message.value] if isinstance(message, Proposal) else b""
                    self.actions.append(Send(message, attached))
                case voting.Schedule(stage, view):
                    self.actions.append(SetTimer(ViewTimer(of, stage, view)))
                case voting.Judge(value):
                    self.state.unjudged.add((of, value))
                case voting.Equivocation(first, second):
                    self.actions.append(Accuse((first.message, first.signature), (second.message, second.signature)))

    def _judge_waiting(self) -> None:
        for of, value in sorted(self.state.unjudged):
            data = self.state.selections.get(value)
            verdict = None if data is None else self._judge(of, data)
            if verdict is not None:
                self.state.unjudged.discard((of, value))
                self._feed(of, voting.Judged(value, verdict))

    def _judge(self, of: Step, data: bytes) -> bool | None:
        """Whether a selection may be agreed on; None while something that it names is not here."""
        try:
            entries = selection.decode(data)
        except selection.SelectionError:
            return False
        if of == Step.UPDATES:
            if not entries.keys() <= self.setting.trainers or len(entries) < self.setting.min_updates:
                return False
            for digest in entries.values():
                if digest not in self.state.updates and digest not in self.state.wanted:
                    self.state.wanted.add(digest)
                    self.actions.append(Fetch(digest))
            return True if all(self.state.updates.get(d) == site for site, d in entries.items()) else None
        if not entries.keys() <= self.setting.validators or not self._is_majority(set(entries)):
            return False
        reveals = {site: self.state.reveals.get(digest) for site, digest in entries.items()}
        known = all(m is not None and m.site == site and self._scores_of(m) is not None for site, m in reveals.items())
        return True if known else None

    def _scores_of(self, message: Message) -> Scores | bytes | None:
        """What a reveal opens: scores, `ABSTENTION`, or None while (or because) it cannot be counted."""
        opened = self.state.opened.get(message.digest)
        if opened is None and (opened := self._open(message)) is not None:
            self.state.opened[message.digest] = opened
        return opened

    def _open(self, message: Message) -> Scores | bytes | None:
        reveal, data = message.body, message.envelope.attachment
        assert isinstance(reveal, ScoreReveal)
        if self.state.selected is None:
            return None
        s = self.setting
        bound = scoring.commitment(s.task_id, s.round, message.site, reveal.salt, reveal.scores_hash)
        if bound not in self.state.commits.get(message.site, frozenset()):
            return None
        if data == scoring.ABSTENTION:
            return scoring.ABSTENTION
        try:
            return Scores.decode(data, self.state.selected)
        except scoring.ScoresError:
            return None

    # --- words ------------------------------------------------------------------------------------------------------

    def _waited_for(self, sites: Set[str]) -> Set[str]:
        """Those of some sites that are active: nobody waits for the others."""
        return sites & self.state.active

    def _is_majority(self, sites: set[str]) -> bool:
        """More than half of the active validators' stake, so that the medians mean something."""
        validators = self.setting.validators
        return 2 * self.state.weight(sites & validators) > self.state.weight(validators)

    @staticmethod
    def _one_a_site(sites_by_digest: dict[bytes, str]) -> dict[str, bytes]:
        return {site: digest for digest, site in sorted(sites_by_digest.items(), reverse=True)}

    def _once(self, what: str) -> bool:
        if what in self.state.done:
            return False
        self.state.done.add(what)
        return True

    def _enter(self, phase: Phase) -> None:
        order = list(Phase)
        self.state.phase = max(self.state.phase, phase, key=order.index)


_NOBODY_SCORES = (
    "No site has enough holdout records to judge a round, so nothing can be accepted. Lower validation.minHoldout, "
    "raise validation.holdoutFraction, or use larger data sets, and apply the task again."
)
