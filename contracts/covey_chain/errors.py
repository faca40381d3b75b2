"""What can go wrong on the way to the chain, by kind; each error says what to do."""

from __future__ import annotations

from urllib.parse import urlsplit


class ChainError(Exception):
    """Base of all errors of this package."""


class RpcUnavailable(ChainError):
    """The node is of no use: it does not answer, not with JSON-RPC, or (`refused`) only with an error of its own."""

    def __init__(self, url: str, cause: str, refused: bool = False) -> None:
        if refused:
            text = f"the node at {shown(url)} refused {cause}; ask who runs it, or set chain.rpcUrl to another one"
        else:
            text = f"no answer from the chain at {shown(url)} ({cause}); check chain.rpcUrl and the way to it"
        super().__init__(text)
        self.url, self.refused = url, refused


class WrongChain(ChainError):
    """The node is of another chain."""

    def __init__(self, url: str, expected: int, found: int) -> None:
        super().__init__(
            f"{shown(url)} is a node of chain {found}, not {expected}; correct chain.rpcUrl or chain.chainId"
        )


class NoContract(ChainError):
    """There is no such contract at the address."""

    def __init__(
        self, address: str, chain_id: int, what: str = "Covey Settlement", field: str = "chain.contract"
    ) -> None:
        super().__init__(f"no {what} contract at {address} on chain {chain_id}; correct {field}")
        self.address = address


class BadWalletKey(ChainError):
    """A private key is not one."""

    def __init__(self, found: str) -> None:
        super().__init__(f"the wallet key is not 0x and 64 hex digits of a secp256k1 key ({found}); correct the Secret")


class BadKeystore(BadWalletKey):
    """A keystore cannot be opened."""

    def __init__(self, cause: str) -> None:
        ChainError.__init__(self, f"the keystore does not open: {cause}; correct the keystore or its password")


class SignerUnavailable(ChainError):
    """An external signer does not answer; it is asked again when the transaction is wanted again."""

    def __init__(self, url: str, cause: str) -> None:
        super().__init__(
            f"no answer from the signer at {shown(url)} ({cause}); check chain.signer.url and the way to it"
        )


class SignerRefused(ChainError):
    """An external signer does not sign what it is asked to."""

    def __init__(self, url: str, address: str, cause: str) -> None:
        super().__init__(
            f"the signer at {shown(url)} does not sign for {address} ({cause}); load the key of that address there, or "
            "correct chain.signer"
        )


class InsufficientFunds(ChainError):
    """The wallet holds too little of something."""

    def __init__(self, what: str, address: str, need: str, have: str) -> None:
        super().__init__(f"{address} needs {need} for {what} and has {have}; send it the difference")


class NonceTaken(ChainError):
    """Something else sends with the same key; the queue has tried again and given up."""

    def __init__(self, address: str, nonce: int) -> None:
        super().__init__(
            f"other transactions of {address} stand in the way at nonce {nonce}; give every member a wallet that "
            "nothing else sends from, or wait until they are mined"
        )
        self.nonce = nonce


class TransactionLost(ChainError):
    """A transaction was not mined in time; it is remembered and looked for when its intent comes again."""

    def __init__(self, call: str, tx_hash: str, seconds: float) -> None:
        super().__init__(
            f"{call} was not confirmed within {seconds:.0f} s (transaction {tx_hash}); check that the chain makes "
            "blocks and what fees it asks"
        )
        self.tx_hash = tx_hash


REMEDIES = {
    # MemberRegistry
    "NameEmpty": "give the consortium a name",
    "ConsortiumExists": "choose another name, or join the consortium that has it",
    "UnknownConsortium": "create the consortium first, or correct spec.consortium",
    "AlreadyMember": "change the entry with an update instead",
    "NotMember": "join the consortium first",
    "NotAdmitted": "ask the members of the consortium for admission",
    "AlreadyVoted": "one vote for a candidate is enough",
    "BadRoles": "name at least one of Planner, Trainer, Validator",
    "TlsKeyMissing": "register the SHA-256 of the TLS public key",
    "TooLong": "shorten the field",
    "AmountZero": "name an amount above zero",
    "StakeTooLow": "raise spec.stake to the consortium's minimum",
    "NotEnoughStaked": "take out no more than is staked",
    "StillBonded": "wait until the unbonding time is over",
    "StillHeld": "wait until the tasks that hold the stake have decided on it",
    "NotMarket": "only the task market may do this",
    # TaskMarket
    "NotSettlement": "only the settlement contract may do this",
    "AlreadyPublished": "this task is on chain already",
    "UnknownTask": "correct the task id, or wait until its publication is mined",
    "BadTerms": "correct the field of the task that is named",
    "SpecMismatch": "publish the terms whose hash is announced",
    "FeeOnTransfer": "use a token that delivers what is sent",
    "NotOpen": "the task no longer takes members",
    "AlreadyAccepted": "change the session key or end point instead",
    "AlreadyFull": "the task has all the members that it allows",
    "RolesNotHeld": "ask for roles that the member holds, or add them to spec.roles of the Subnet",
    "SessionKeyTaken": "delete the task's Secret with the session key, so that a fresh one is made",
    "NotParticipant": "accept the task first",
    "NotPlanner": "only the member that published the task may do this",
    "TooFewMembers": "wait until enough members have accepted",
    "StartTooEarly": "wait until all members have accepted or the acceptance time has passed",
    "NotExpired": "wait for the task's deadline",
    "FallbackOpen": "wait: its members may still settle the task by medians",
    "RewardExceeded": "the signed tree promises more than was settled; wait for the next result",
    "NothingDue": "there is no refund to collect",
    "NeverStarted": "faults are those of a task that has started",
    "AlreadyExpelled": "the member has been expelled from this task already",
    "NoAuditor": "publish the task with an auditor",
    "HoldoutEmpty": "commit to at least one record",
    "AlreadyCommitted": "a holdout is committed to once; go on with that one",
    "NoSuchPlace": "name places in the list of the task's participants",
    # Settlement
    "ForeignMarket": "deploy a market that names this settlement contract's address",
    "TaskNotStarted": "results count between a task's start and its end",
    "RoundNotNewer": "a result of this or a later round is on chain already",
    "RoundBeyondEnd": "the task has fewer rounds",
    "RewardDecreased": "rewards are cumulative; add to what was settled",
    "RewardAboveBounty": "share out no more than the bounty",
    "SignersNotAscending": "sort signatures by signer and give each once",
    "BadSignature": "give signatures of 65 bytes with a low s",
    "QuorumMissing": "collect signatures of more than 2/3 of the epoch's stake, by present session keys",
    "PenaltiesMismatch": "give the ledger of penalties whose keccak256 was signed",
    "PenaltiesCut": "give entries of 26 bytes",
    "PenaltiesNotAscending": "sort the ledger by place and enter each member once",
    "PenaltyUnknown": "give no other flags than 1 and 2",
    "PenaltyForgotten": "keep everybody in the ledger who was ever in it",
    "PenaltyAboveStake": "hold and slash no more than the member's snapshotted stake",
    "HeldWithoutAppeal": "let the last result slash or give back what no appeal protects",
    "NothingToAppeal": "wait until something is held, or the member is removed",
    "AlreadyAppealed": "one appeal in a task is enough",
    "AppealsOver": "appeals and verdicts count from the start to the end of the task's appeal window",
    "FindingsMismatch": "give the findings whose keccak256 was signed",
    "FindingsTooLong": "shorten the findings",
    "VerdictNotNewer": "a verdict of this or a later epoch is on chain already",
    "NothingHeld": "there is nothing to decide on",
    "NotYetOver": "wait for the task's last result, or for its deadline and have it expire",
    "AuditorMayAnswer": "wait for a verdict or for the end of the task's appeal window",
    "SlashDecreased": "what is slashed is for good; enter at least what was slashed before",
    "WrongSigner": "have the participant itself sign, with a session key of this task",
    "WrongEpoch": "read the task's epoch from the chain again",
    "EvidenceTooLong": "send the newest quorum of each step only",
    "NotCounted": "sign with the participant's present session key; who was expelled is not asked",
    "AlreadyAnswered": "one answer to a roll call is enough",
    "RollCallNotOpen": "wait for answers of more than half of the active stake",
    "NoConflict": "give two different messages of one site for one slot",
    "RollCallStillOpen": "wait for the end of the answer window",
    "ProofInvalid": "take amount and proof from the tree of the newest result",
    "NothingToClaim": "this reward has been paid",
    # Fallback
    "NotFallback": "only the fallback may do this",
    "WrongPhase": "commit, reveal and settle in their windows after the deadline of a task without a last result",
    "NotYours": "commit with the member's wallet or its session key",
    "NotActive": "who has not answered the newest roll call has no say",
    "NotCommitted": "reveal exactly what was committed to, with the same salt",
    "AlreadyRevealed": "a commitment is revealed once",
    "WrongLength": "give an amount for each of the task's participants",
    "NoMedian": "compute the medians from what has been revealed, without who is expelled",
    "NotSettledSoFar": "give the rewards of the newest result on chain, in the order of participants; zeros if none",
    # OpenZeppelin
    "ERC20InsufficientBalance": "the wallet holds too few tokens",
    "ERC20InsufficientAllowance": "approve the contract for the amount first",
    "SafeERC20FailedOperation": "the token refused the transfer; check balance, allowance, and that it is an ERC-20",
}


class Reverted(ChainError):
    """A contract refused; `reason` is the name of its error, `remedy` what to do about it."""

    def __init__(self, call: str, reason: str, arguments: tuple[object, ...] = ()) -> None:
        self.call, self.reason, self.arguments = call, reason, arguments
        self.remedy = REMEDIES.get(reason, "")
        error = f"{reason}({', '.join(map(str, arguments))})" if arguments else reason
        super().__init__(f"{call} was refused by the contract: {error}" + (f"; {self.remedy}" if self.remedy else ""))


def shown(url: str) -> str:
    """A URL without what may be secret in it: user, password and query."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
