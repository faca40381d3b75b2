"""What can go wrong on the way to the chain, by kind; each error says what to do."""

from __future__ import annotations


class ChainError(Exception):
    """Base of all errors of this package."""


class RpcUnavailable(ChainError):
    """The node does not answer, or not with JSON-RPC."""

    def __init__(self, url: str, cause: str) -> None:
        super().__init__(f"no answer from the chain at {url} ({cause}); check chain.rpcUrl and the way to it")
        self.url = url


class WrongChain(ChainError):
    """The node is of another chain."""

    def __init__(self, url: str, expected: int, found: int) -> None:
        super().__init__(f"{url} is a node of chain {found}, not {expected}; correct chain.rpcUrl or chain.chainId")


class NoContract(ChainError):
    """There is no Settlement contract at the address."""

    def __init__(self, address: str, chain_id: int) -> None:
        super().__init__(f"no Covey Settlement contract at {address} on chain {chain_id}; correct chain.contract")


class BadWalletKey(ChainError):
    """A private key is not one."""

    def __init__(self, found: str) -> None:
        super().__init__(f"the wallet key is not 0x and 64 hex digits of a secp256k1 key ({found}); correct the Secret")


class InsufficientFunds(ChainError):
    """The wallet holds too little of something."""

    def __init__(self, what: str, address: str, need: str, have: str) -> None:
        super().__init__(f"{address} needs {need} for {what} and has {have}; send it the difference")


class NonceTaken(ChainError):
    """Another transaction of the same wallet took the nonce; the queue tries again with the next."""


class TransactionLost(ChainError):
    """A transaction was not mined in time."""


REMEDIES = {
    "UnknownConsortium": "create the consortium first, or correct spec.consortium",
    "NotAdmitted": "ask the members of the consortium for admission",
    "AlreadyPublished": "this task is on chain already",
    "NotOpen": "the task no longer takes members",
    "AlreadyFull": "the task has all the members that it allows",
    "TooFewMembers": "wait until enough members have accepted",
    "StartTooEarly": "wait until all members have accepted or the acceptance time has passed",
    "StakeTooLow": "raise spec.stake to the consortium's minimum",
    "QuorumMissing": "collect signatures of more than 2/3 of the stake",
    "RoundNotNewer": "a result of this or a later round is on chain already",
    "FeeOnTransfer": "use a token that delivers what is sent",
    "ERC20InsufficientBalance": "the wallet holds too few tokens",
    "ERC20InsufficientAllowance": "approve the contract for the amount first",
}


class Reverted(ChainError):
    """A contract refused; `reason` is the name of its error."""

    def __init__(self, call: str, reason: str, arguments: tuple[object, ...] = ()) -> None:
        shown = f"{reason}({', '.join(map(str, arguments))})" if arguments else reason
        remedy = REMEDIES.get(reason)
        super().__init__(f"{call} was refused by the contract: {shown}" + (f"; {remedy}" if remedy else ""))
        self.call, self.reason, self.arguments = call, reason, arguments
