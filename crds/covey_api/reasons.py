"""What every reason means and what to do about it: the one place for these texts.

`docs/reference/reasons.md` is made from here, and the operator may quote the remedy in a condition's message.
"""

from __future__ import annotations

from dataclasses import dataclass

from covey_api.status import Reason


@dataclass(frozen=True)
class Explanation:
    """A reason, explained to the person who reads `kubectl describe`."""

    meaning: str
    remedy: str


NOTHING_TO_DO = "Nothing."


def _calm(meaning: str) -> Explanation:
    """A reason of normal life, which asks for no action."""
    return Explanation(meaning, NOTHING_TO_DO)


@dataclass(frozen=True)
class Chapter:
    """Reasons that belong together, in the order in which they are read."""

    title: str
    reasons: dict[Reason, Explanation]


NORMAL_LIFE = Chapter(
    "Normal life",
    {
        Reason.AS_EXPECTED: _calm("What the condition speaks of is as the spec asks."),
        Reason.PENDING: _calm("The operator has seen the object and has not yet come to this part of it."),
        Reason.NOT_STARTED: _calm("An earlier step must end first; the other conditions say which."),
        Reason.AWAITING_APPROVAL: Explanation(
            "The task fits the policy of this Subnet, whose `spec.policy.approval` is `Manual`: a person decides.",
            "Look at the terms (`kubectl describe ft NAME`), then set `spec.participation.decision` to `Join` or "
            "`Decline`, or run `covey join NAME` or `covey decline NAME`.",
        ),
        Reason.AWAITING_MEMBERS: _calm(
            "Fewer members than `spec.members.min` have accepted; the task starts when enough of them have."
        ),
        Reason.ACCEPTED_BY_POLICY: _calm(
            "The task fits the policy of this Subnet, whose approval is `Automatic`, or it is this member's own task."
        ),
        Reason.ACCEPTED_BY_PERSON: _calm("`spec.participation.decision` is `Join`."),
        Reason.ROUNDS_RUNNING: _calm("Rounds are being trained; `status.rounds` shows how far they are."),
        Reason.ROUNDS_DONE: _calm("The last round has ended; the result is being settled."),
        Reason.SETTLING: _calm("The signed result waits for its transaction and the confirmations of it."),
        Reason.SETTLED_ON_CHAIN: _calm("The last result, signed by more than two thirds of the stake, is on chain."),
        Reason.REWARD_CLAIMED: _calm("This member's reward has been paid to its owner address."),
        Reason.HELPS_AS_OTHERS_DO: _calm(
            "The updates of this member helped the others' records as those of a typical member do: no stake is held."
        ),
        Reason.SUSPENDED: Explanation(
            "`spec.suspend` is true: the local pods are gone, the state on the volume is kept. Rounds that the other "
            "members finish meanwhile are not paid.",
            "Set `spec.suspend` to false to take part again.",
        ),
    },
)

OWN_DECISION = Chapter(
    "This member's own decision",
    {
        Reason.DECLINED_BY_PERSON: Explanation(
            "`spec.participation.decision` is `Decline`.",
            "To take part after all, run `covey join NAME` while the task still waits for members.",
        ),
        Reason.NOT_A_TRAINER: Explanation(
            "The Subnet has neither the role Trainer nor the role Validator, so it has no part in a task of others.",
            "Add one of them to `spec.roles` of the Subnet.",
        ),
        Reason.IMAGE_NOT_ALLOWED: Explanation(
            "The program's image matches no pattern in `spec.policy.images` of the Subnet.",
            "Have the image examined, then add it, or decline the task.",
        ),
        Reason.IMAGE_NOT_PINNED: Explanation(
            "The program's image has a tag, which can be moved to other code; `spec.policy.requireDigest` is true.",
            "Ask the Planner to name the image by digest (`name@sha256:…`), or set `requireDigest` to false.",
        ),
        Reason.SPONSOR_NOT_ALLOWED: Explanation(
            "The Planner's address is not in `spec.policy.sponsors` of the Subnet.",
            "Find out whose address it is, then add it, or decline the task.",
        ),
        Reason.TOO_MANY_ROUNDS: Explanation(
            "The task has more rounds than `spec.policy.maxRounds` of the Subnet allows.",
            "Raise the limit, or ask the Planner for fewer rounds.",
        ),
        Reason.TOO_MANY_WORKERS: Explanation(
            "The task asks for more workers at each site than `spec.policy.maxWorkers` of the Subnet allows.",
            "Raise the limit, or ask the Planner for fewer workers.",
        ),
        Reason.UNKNOWN_DATA_SCHEMA: Explanation(
            "No data set in `spec.datasets` of the Subnet follows the schema that the task asks for.",
            "Add a data set with that `schema`; compare the spelling with `spec.data.schema` of the task.",
        ),
        Reason.DATASET_AMBIGUOUS: Explanation(
            "Several data sets of the Subnet follow the schema, or `spec.participation.dataset` names one that does "
            "not exist.",
            "Name one of them: `covey join NAME --dataset DATASET` sets `spec.participation.dataset`.",
        ),
    },
)

NEEDS_A_PERSON = Chapter(
    "Something needs a person",
    {
        Reason.INVALID_SPEC: Explanation(
            "The spec breaks a rule which the API server cannot check; the message names the field.",
            "Correct the field. Terms of a task cannot be changed: apply a new task.",
        ),
        Reason.SUBNET_NOT_FOUND: Explanation(
            "There is no Subnet of the name in `spec.subnet` in the namespace of the task.",
            "Create it, or apply the task in the namespace of the Subnet (`kubectl get sn -A`).",
        ),
        Reason.SUBNET_NOT_READY: Explanation(
            "The Subnet that the task goes through is not Ready.",
            "See what it waits for: `kubectl describe sn NAME`. The task goes on by itself.",
        ),
        Reason.NOT_A_PLANNER: Explanation(
            "The Subnet does not have the role Planner, which may publish tasks.",
            "Add `Planner` to `spec.roles` of the Subnet.",
        ),
        Reason.WALLET_SECRET_NOT_FOUND: Explanation(
            "The Secret that `spec.chain.walletSecret` names does not exist in this namespace.",
            "Create it: `kubectl create secret generic NAME --from-file=privateKey=FILE`.",
        ),
        Reason.BAD_WALLET_KEY: Explanation(
            "The Secret does not hold a secp256k1 key (0x and 64 hex digits, not zero, below the order of the curve), "
            "or its keystore does not open with the password beside it.",
            "Put the owner's key into the Secret; `covey init` makes one. With a keystore, "
            "`spec.chain.walletSecret.passwordKey` names the key of its password.",
        ),
        Reason.SIGNER_UNAVAILABLE: Explanation(
            "The signer at `spec.chain.signer.url` does not answer. Nothing was sent; running tasks train on, since "
            "validators sign with keys of their own.",
            "See that the signer runs and that NetworkPolicies (`networkPolicy.signer` of the chart) and firewalls let "
            "the operator reach it. It is asked again by itself.",
        ),
        Reason.SIGNER_REFUSED: Explanation(
            "The signer at `spec.chain.signer.url` answers, but does not sign for `spec.chain.signer.address`, or "
            "signs something else than it was asked to; the message says which.",
            "Load the key of that address into the signer and set it to the chain id of the Subnet, or correct the "
            "address.",
        ),
        Reason.RPC_UNAVAILABLE: Explanation(
            "The node at `spec.chain.rpcUrl` does not answer, nor any of `fallbackRpcUrls`. Training goes on; results "
            "wait in a queue.",
            "See that the node runs and that NetworkPolicies and firewalls let the operator reach it. It is tried "
            "again by itself.",
        ),
        Reason.WRONG_CHAIN: Explanation(
            "The node at `spec.chain.rpcUrl` serves another chain than `spec.chain.chainId`.",
            "Correct one of the two.",
        ),
        Reason.NO_CONTRACT: Explanation(
            "There is no Covey contract at `spec.chain.contract` on this chain.",
            "Ask the consortium for the address of its Settlement contract.",
        ),
        Reason.CONSORTIUM_NOT_FOUND: Explanation(
            "The contract knows no consortium of the name in `spec.consortium`.",
            "Compare the spelling. The field cannot be changed: delete the Subnet and apply it with the right name.",
        ),
        Reason.INSUFFICIENT_FUNDS: Explanation(
            "The wallet has too few tokens for the stake or the bounty, or too little of the chain's own coin for "
            "fees; the message says how much is missing.",
            "Send the missing amount to `status.address` of the Subnet, or lower the stake. A task whose bounty was "
            "too high is published as soon as the tokens are there.",
        ),
        Reason.TRANSACTION_REVERTED: Explanation(
            "The contract refused a transaction; the message carries its error and arguments.",
            "Do what the message says. The transaction is tried again when the spec or the chain changes.",
        ),
        Reason.CLAIM_NOT_FOUND: Explanation(
            "A PersistentVolumeClaim that the Subnet names, of a data set or for finished models, does not exist.",
            "Create the claim in this namespace, or correct its name in the Subnet.",
        ),
        Reason.IMAGE_PULL_FAILED: Explanation(
            "A node cannot pull an image; the message names the image and what the registry answered.",
            "Correct the name or give the namespace a pull secret. A task whose program image is wrong must be "
            "applied anew: its terms are on chain.",
        ),
        Reason.PODS_UNSCHEDULABLE: Explanation(
            "No node has room for a pod; the message carries what the scheduler said.",
            "Free or add nodes, GPUs included, or correct `spec.compute` of the Subnet.",
        ),
        Reason.PODS_STARTING: _calm("The pods of the task have been created and are not all running yet."),
        Reason.PODS_CRASHING: Explanation(
            "A pod of the task ended again and again; the operator starts it more and more rarely.",
            "Read `kubectl logs NAME-head -c validator`, `-c ray-head` and `kubectl logs NAME-worker-0`.",
        ),
        Reason.NAME_CONFLICT: Explanation(
            "An object of a name that the operator needs exists and is not its own; it is left alone.",
            "Delete or rename that object, or apply the task under another name.",
        ),
        Reason.CHILD_REFUSED: Explanation(
            "The API server does not accept a Secret, claim, ConfigMap or NetworkPolicy that the operator needs: a "
            "quota, an admission policy, or a namespace that is being deleted. The message says which, and why.",
            "Mend what the message says, such as the quota. The operator tries again by itself.",
        ),
        Reason.KUBERAY_MISSING: Explanation(
            "`spec.compute.backend` of the Subnet is `KubeRay`, and this cluster has no RayClusters, or nobody looks "
            "after them; the message says which.",
            "Install KubeRay 1.7 or later so that it watches this namespace, or set the back end to `Pods`. The task "
            "goes on by itself.",
        ),
        Reason.ENDPOINT_PENDING: Explanation(
            "The Service of the exchange has no port or address yet under which others could reach it.",
            "Nothing for a few seconds. For LoadBalancer: see that the cluster has a provider of them; for a fixed "
            "`nodePort`: see that no other Service holds it.",
        ),
        Reason.PEERS_UNREACHABLE: Explanation(
            "Some members of the task do not answer at the address that they registered; the message names them.",
            "See that `spec.exchange.advertise` is right at both ends and that firewalls let the port through. If the "
            "task is finished on chain, the others have left: see [what to do]"
            "(../how-to/troubleshooting.md#you-were-away-when-the-task-ended).",
        ),
    },
)

QUALITY = Chapter(
    "What the incentive rule makes of a task and of a member",
    {
        Reason.SHORT_TASK: Explanation(
            "The task is published and runs, but has few rounds for the incentive rule; the message says what that "
            "means for an honest member with unusual data, and for one that degrades the model.",
            "Nothing for this task, whose terms are on chain. For the next one: a larger `spec.rounds.count`, or a "
            "smaller `spec.incentives.epochRounds`, which makes each judgement noisier.",
        ),
        Reason.STAKE_HELD: Explanation(
            "In the last epochs the updates of this member helped the others' records less than those of a typical "
            "member; the message says by how much, and how much of the stake is held. Half of it comes back with every "
            "epoch that is as it should be; what is still held at the end is slashed.",
            "Look at the data and at the program's settings first: wrong labels, other units or a broken data set show "
            "here. Data that are unlike all others show here, too; docs/explanation/incentives.md says what then.",
        ),
        Reason.STAKE_SLASHED: Explanation(
            "What was held when the task ended has been burnt; the message says how much and why.",
            "Find out why before you accept the next task: the message and the figures of each round say more.",
        ),
        Reason.REMOVED_FOR_QUALITY: Explanation(
            "Epoch after epoch the updates of this member made the model worse, or gave nothing to it: they count no "
            "more, nor do its scores, and it earns nothing further. It still gets the model.",
            "Find out why before you accept the next task: wrong labels, other units or a broken data set.",
        ),
    },
)

END_OF_A_TASK = Chapter(
    "What ends a task",
    {
        Reason.ENTRYPOINT_NOT_FOUND: Explanation(
            "The image has no class at `spec.program.entrypoint`; the message says which part is missing.",
            "Correct the entrypoint (`module:Class`) and apply a new task. Try it first with `covey simulate`.",
        ),
        Reason.PROGRAM_ERROR: Explanation(
            "The program raised an exception; the message carries its end.",
            "Correct the program, build its image and apply a new task. Try it first with `covey simulate`.",
        ),
        Reason.DATA_INVALID: Explanation(
            "The program could not read the data set of this member, or the data do not follow the schema.",
            "Compare the files on the claim (and `path`) with what the program expects.",
        ),
        Reason.BASE_MODEL_MISMATCH: Explanation(
            "This member's first model differs from the others': the program does not initialise it from the seed.",
            "Make the program's `model` function deterministic, and use the same image everywhere.",
        ),
        Reason.HOLDOUT_TOO_SMALL: Explanation(
            "The holdout of this member has fewer records than `spec.validation.minHoldout`.",
            "Nothing for one member: it abstains from scoring. For all members: a larger `holdoutFraction` or a "
            "smaller `minHoldout` in a new task.",
        ),
        Reason.CANCELLED_BY_PLANNER: _calm("The Planner took the task back; its bounty has been refunded."),
        Reason.NOT_ENOUGH_MEMBERS: Explanation(
            "Fewer than `spec.members.min` members accepted within `spec.members.acceptWithin`; the bounty has been "
            "refunded.",
            "Ask the members what keeps them, then apply a new task: a longer time, a lower minimum, a higher bounty.",
        ),
        Reason.STARTED_WITHOUT_US: Explanation(
            "The task started before this member had accepted it.",
            "Decide earlier, or set `spec.policy.approval` of the Subnet to `Automatic`.",
        ),
        Reason.DEADLINE_PASSED: Explanation(
            "The task was not settled before its deadline on chain; what nobody had earned went back to the Planner.",
            "Look at the members' conditions for what kept the rounds, then apply a new task with a longer "
            "`spec.rounds.deadline` or fewer rounds.",
        ),
        Reason.NO_QUORUM: Explanation(
            "The task's deadline on chain has passed and more than 2/3 of the stake have not signed a last result. It "
            "does not expire yet: its members may settle what was earned.",
            "Leave the validator running: it settles by itself what it has records of. For what no record has, see "
            "[Settle a task without a quorum](../how-to/settle-without-a-quorum.md).",
        ),
        Reason.SETTLED_BY_MEDIANS: Explanation(
            "The task ended without a last result. Rewards are the stake-weighted medians of what its members say that "
            "all have earned; what was held of members returns, and the rest of the bounty went back to the Planner.",
            "Look at the members' conditions for what kept the rounds, then apply a new task for the rest.",
        ),
        Reason.MODEL_MISMATCH: Explanation(
            "The model on this member's output volume is not the one that was settled; the message has both digests.",
            "Do not use it: take the settled model from another member, and keep the task's state volume for a report.",
        ),
    },
)

CHAPTERS = (NORMAL_LIFE, OWN_DECISION, NEEDS_A_PERSON, QUALITY, END_OF_A_TASK)
EXPLANATIONS: dict[Reason, Explanation] = {
    reason: explanation for chapter in CHAPTERS for reason, explanation in chapter.reasons.items()
}
