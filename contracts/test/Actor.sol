// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Base} from "./Base.sol";
import {DevToken} from "../src/DevToken.sol";
import {MemberRegistry} from "../src/MemberRegistry.sol";
import {TaskMarket} from "../src/TaskMarket.sol";
import {Appeals} from "../src/Appeals.sol";
import {Settlement} from "../src/Settlement.sol";

/// Does what members, planners, quorums and strangers may do, in any order and with any numbers; a quorum may also lie.
contract Actor is Base {
    uint256 private constant MEMBERS = 4;

    error NoSuchTask(TaskMarket.Status status);

    /// What a task's participants may claim by the newest tree.
    mapping(bytes32 taskId => uint256[]) private rewards;
    bytes32[] public tasks;
    uint256 public supply;
    /// The latest time so far. Foundry now and then forgets a warp between two calls, and time would run backwards.
    uint256 public clock;

    function setUp() public override {
        super.setUp();
        for (uint256 i = 0; i < MEMBERS; ++i) {
            enroll(i, STAKE);
        }
        supply = token.totalSupply();
        clock = block.timestamp;
    }

    modifier onward() {
        vm.warp(clock);
        _;
    }

    function warpTo(uint256 time) private {
        if (time > clock) clock = time;
        vm.warp(clock);
    }

    function stake(uint256 who, uint96 amount) external onward {
        vm.prank(owner(who % MEMBERS));
        registry.stake(consortium, amount % 1000 ether);
    }

    function unstake(uint256 who, uint256 amount) external onward {
        uint256 staked = registry.stakeOf(consortium, owner(who % MEMBERS));
        vm.prank(owner(who % MEMBERS));
        registry.unstake(consortium, amount % (staked / 8 + 1));
    }

    /// Set once somebody has taken out what a task holds.
    bool public heldLeft;

    function withdraw(uint256 who, uint256 later) external onward {
        warpTo(clock + later % 4 days);
        takeOut(owner(who % MEMBERS));
    }

    /// Take out all that one has, as soon as one may.
    function goAway(uint256 who, uint8 rarely) external onward {
        if (rarely % 8 != 0) return;
        address member = owner(who % MEMBERS);
        uint256 staked = registry.stakeOf(consortium, member);
        vm.prank(member);
        registry.unstake(consortium, staked);
        warpTo(registry.memberOf(consortium, member).withdrawableAt);
        takeOut(member);
    }

    function takeOut(address member) private {
        uint256 before = here(member);
        vm.prank(member);
        registry.withdraw(consortium);
        uint256 held = registry.memberOf(consortium, member).held;
        if (here(member) < held && here(member) < before) heldLeft = true;
    }

    function publish(uint256 who, uint96 bounty, uint8 min, bool fill) external onward {
        TaskMarket.Terms memory wanted = terms(bounty % 1000 ether, 4);
        wanted.minMembers = 1 + min % 4;
        // Some tasks last longer than the unbonding time.
        wanted.deadline += uint64(min) % 8 * 5 days;
        wanted.salt = keccak256(abi.encode(tasks.length));
        vm.prank(owner(who % MEMBERS));
        bytes32 taskId = market.publish(wanted, SPEC);
        tasks.push(taskId);
        // Most tasks shall get far enough to be settled.
        for (uint256 i = 0; fill && i < MEMBERS; ++i) {
            if (registry.stakeOf(consortium, owner(i)) < 10 ether) continue;
            vm.prank(owner(i));
            market.accept(taskId, 6, session(i), "");
        }
    }

    function accept(uint256 which, uint256 who) external onward {
        bytes32 taskId = task(which, TaskMarket.Status.Open);
        vm.prank(owner(who % MEMBERS));
        market.accept(taskId, 6, session(who % MEMBERS), "");
    }

    function withdrawAcceptance(uint256 which, uint256 who) external onward {
        bytes32 taskId = task(which, TaskMarket.Status.Open);
        vm.prank(owner(who % MEMBERS));
        market.withdrawAcceptance(taskId);
    }

    function start(uint256 which) external onward {
        bytes32 taskId = task(which, TaskMarket.Status.Open);
        vm.prank(market.taskOf(taskId).planner);
        market.start(taskId);
    }

    function cancel(uint256 which) external onward {
        bytes32 taskId = task(which, TaskMarket.Status.Open);
        vm.prank(market.taskOf(taskId).planner);
        market.cancel(taskId);
    }

    function expire(uint256 which, uint256 later) external onward {
        warpTo(clock + later % 1 days);
        market.expire(tasks[which % tasks.length]);
    }

    /// What a task has burnt of a place for quality.
    mapping(bytes32 taskId => mapping(uint8 place => uint256)) public burnt;

    /// `honest` trees add up to the settled total; others promise more. The ledger of penalties is any that the
    /// contracts take: every place, any part of the stake, and any flags.
    function post(uint256 which, uint96[MEMBERS] calldata more, bool honest, uint8 last, uint96[MEMBERS] calldata lost)
        external
        onward
    {
        bytes32 taskId = task(which, TaskMarket.Status.Started);
        TaskMarket.Task memory t = market.taskOf(taskId);
        uint256[] memory next = rewardsOf(taskId);
        uint256 total = settlement.totalReward(taskId);
        for (uint256 i = 0; i < next.length; ++i) {
            uint256 part = (t.terms.bounty - total) == 0 ? 0 : more[i] % (t.terms.bounty - total);
            next[i] += part;
            if (honest) total += part;
        }
        rewards[taskId] = next;
        Settlement.RoundResult memory r =
            result(taskId, settlement.stateOf(taskId).round + 1, root(taskId), total, last % 8 == 0);
        bytes memory ledger =
            settlement.stateOf(taskId).penalised || lost[0] % 2 == 0 ? ledgerOf(taskId, lost) : bytes("");
        if (ledger.length > 0) r.penalties = keccak256(ledger);
        uint256[MEMBERS] memory before = hereAll();
        settlement.postResult(r, ledger, joined(participantSignatures(taskId, r)));
        for (uint256 i = 0; i < MEMBERS; ++i) {
            slashed[owner(i)] += before[i] - here(owner(i));
        }
    }

    function appeal(uint256 which, uint256 who) external onward {
        vm.prank(owner(who % MEMBERS));
        settlement.appeal(tasks[which % tasks.length]);
    }

    /// The auditor speaks about somebody, and whatever can be decided is.
    function resolve(uint256 which, uint256 who, bool speaks, bool authentic) external onward {
        bytes32 taskId = task(which, TaskMarket.Status.Finished);
        address member = owner(who % MEMBERS);
        uint32 epoch = settlement.appealOf(taskId, member).epoch + 1;
        Appeals.AuditVerdict memory v = Appeals.AuditVerdict(taskId, member, epoch, authentic, keccak256(""));
        bytes memory signature = signatureBy(AUDITOR, digestOf(verdictHash(v)));
        if (speaks) settlement.postVerdict(v, "", signature);
        uint256 before = here(member);
        settlement.resolveHeld(taskId, member);
        slashed[member] += before - here(member);
        uint8 place = market.placeOf(taskId, member);
        burnt[taskId][place] += before - here(member);
    }

    function ledgerOf(bytes32 taskId, uint96[MEMBERS] calldata lost) private returns (bytes memory ledger) {
        (, uint96[] memory stakes,,) = market.snapshotOf(taskId);
        for (uint8 i = 0; i < stakes.length; ++i) {
            uint96 slashedSoFar = settlement.penaltyAt(taskId, i).slashed;
            // Mostly little, so that there is something left to go on with.
            uint96 more = lost[i] % ((stakes[i] - slashedSoFar) / (lost[i] % 4 == 0 ? 1 : 32) + 1);
            uint96 held = (lost[i] >> 7) % (stakes[i] - slashedSoFar - more + 1);
            // A last result takes or gives back what no appeal protects.
            uint8 flags = uint8(lost[i] % 4) | (held > 0 ? 2 : 0);
            ledger = bytes.concat(ledger, entry(i, flags, held, slashedSoFar + more));
            burnt[taskId][i] = slashedSoFar + more;
        }
    }

    function hereAll() private view returns (uint256[MEMBERS] memory all) {
        for (uint256 i = 0; i < MEMBERS; ++i) {
            all[i] = here(owner(i));
        }
    }

    function claim(uint256 which, uint256 who) external onward {
        bytes32 taskId = tasks[which % tasks.length];
        for (uint256 i = 0; i < tasks.length && settlement.totalReward(taskId) == 0; ++i) {
            taskId = tasks[i];
        }
        address[] memory members = market.participants(taskId);
        who %= members.length;
        (, bytes32[] memory proof) = rewardTree(taskId, rewards[taskId], who);
        settlement.claim(taskId, members[who], rewards[taskId][who], proof);
    }

    /// How often it has come to medians, and whether they ever led to other rewards than those settled before and what
    /// the medians add, cut to the escrow.
    uint256 public settledByMedians;
    bool public otherRewards;

    /// The quorum is gone: who is not `away` says what `said` has for it, and perhaps enough do.
    function fallBack(uint256 which, uint128[MEMBERS][MEMBERS] calldata said, uint8 away, uint8 rarely)
        external
        onward
    {
        if (rarely % 4 != 0) return;
        bytes32 taskId = task(which, TaskMarket.Status.Started);
        TaskMarket.Terms memory t = market.taskOf(taskId).terms;
        for (uint256 i = 0; i < tasks.length && t.deadline + t.fallbackWindow <= clock; ++i) {
            taskId = task(which + i, TaskMarket.Status.Started);
            t = market.taskOf(taskId).terms;
        }
        address[] memory members = market.participants(taskId);
        warpTo(t.deadline > clock ? t.deadline : clock);
        for (uint256 i = 0; i < MEMBERS; ++i) {
            if (isHere(taskId, i, away)) commitRewards(taskId, i, vector(said[i], t.bounty, members.length));
        }
        warpTo(t.deadline + t.fallbackWindow);
        for (uint256 i = 0; i < MEMBERS; ++i) {
            if (isHere(taskId, i, away)) revealRewards(taskId, i, vector(said[i], t.bounty, members.length));
        }
        warpTo(t.deadline + 2 * t.fallbackWindow);
        uint256[] memory before = rewardsOf(taskId);
        uint128[] memory medians = mediansOf(taskId, said, away, t.bounty);
        quorumFallback.settle(taskId, narrow(before), medians);
        ++settledByMedians;
        uint256 more = 0;
        for (uint256 i = 0; i < before.length; ++i) {
            if (medians[i] > before[i]) more += medians[i] - before[i];
        }
        uint256 rest = t.bounty - added(before);
        uint256[] memory next = new uint256[](before.length);
        for (uint256 i = 0; i < before.length; ++i) {
            uint256 part = medians[i] > before[i] ? medians[i] - before[i] : 0;
            next[i] = before[i] + (more > rest ? part * rest / more : part);
        }
        rewards[taskId] = next;
        if (settlement.stateOf(taskId).rewardRoot != root(taskId)) otherRewards = true;
    }

    function mediansOf(bytes32 taskId, uint128[MEMBERS][MEMBERS] calldata said, uint8 away, uint256 bounty)
        private
        view
        returns (uint128[] memory medians)
    {
        address[] memory members = market.participants(taskId);
        uint128[] memory column = new uint128[](MEMBERS);
        uint256[] memory weights = new uint256[](MEMBERS);
        medians = new uint128[](members.length);
        for (uint256 j = 0; j < members.length; ++j) {
            for (uint256 i = 0; i < MEMBERS; ++i) {
                column[i] = vector(said[i], bounty, members.length)[j];
                weights[i] = isHere(taskId, i, away) ? market.participantOf(taskId, owner(i)).stake : 0;
            }
            medians[j] = medianOf(column, weights);
        }
    }

    function isHere(bytes32 taskId, uint256 i, uint8 away) private view returns (bool) {
        TaskMarket.Participant memory p = market.participantOf(taskId, owner(i));
        return p.roles != 0 && !p.expelled && (away >> i) & 1 == 0;
    }

    function vector(uint128[MEMBERS] calldata said, uint256 bounty, uint256 length)
        private
        pure
        returns (uint128[] memory amounts)
    {
        amounts = new uint128[](length);
        for (uint256 i = 0; i < length; ++i) {
            amounts[i] = uint128(said[i] % (bounty + 1));
        }
    }

    /// Of participants, by place; zeros before the first result.
    function rewardsOf(bytes32 taskId) private view returns (uint256[] memory) {
        return rewards[taskId].length == 0 ? new uint256[](market.participants(taskId).length) : rewards[taskId];
    }

    function narrow(uint256[] memory amounts) private pure returns (uint128[] memory narrowed) {
        narrowed = new uint128[](amounts.length);
        for (uint256 i = 0; i < amounts.length; ++i) {
            narrowed[i] = uint128(amounts[i]);
        }
    }

    function added(uint256[] memory amounts) private pure returns (uint256 total) {
        for (uint256 i = 0; i < amounts.length; ++i) {
            total += amounts[i];
        }
    }

    /// What has been taken of a member for faults.
    mapping(address member => uint256) public slashed;

    function accuse(uint256 which, uint256 who, uint256 reporter, uint8 rarely) external onward {
        if (rarely % 4 != 0) return;
        bytes32 taskId = task(which, rarely % 8 == 0 ? TaskMarket.Status.Finished : TaskMarket.Status.Started);
        address member = owner(who % MEMBERS);
        uint256 before = here(member);
        proveTwoVotes(taskId, who % MEMBERS, 101 + who % MEMBERS, owner(reporter % MEMBERS));
        slashed[member] += before - here(member);
    }

    /// Stake and unbonding stake of a member.
    function here(address member) public view returns (uint256) {
        MemberRegistry.Member memory m = registry.memberOf(consortium, member);
        return uint256(m.stake) + m.unbonding;
    }

    function contracts() external view returns (DevToken, MemberRegistry, TaskMarket, Settlement) {
        return (token, registry, market, settlement);
    }

    function taskCount() external view returns (uint256) {
        return tasks.length;
    }

    function inRegistry() external view returns (uint256 balance, uint256 booked) {
        balance = token.balanceOf(address(registry));
        for (uint256 i = 0; i < MEMBERS; ++i) {
            booked += here(owner(i));
        }
        booked += registry.burnt(consortium);
    }

    function inMarket() external view returns (uint256 balance, uint256 booked) {
        balance = token.balanceOf(address(market));
        for (uint256 i = 0; i < tasks.length; ++i) {
            TaskMarket.Task memory t = market.taskOf(tasks[i]);
            booked += t.terms.bounty - t.paid - t.refunded;
        }
    }

    function everything() external view returns (uint256 sum) {
        sum = token.balanceOf(address(registry)) + token.balanceOf(address(market));
        for (uint256 i = 0; i < MEMBERS; ++i) {
            sum += token.balanceOf(owner(i));
        }
    }

    function task(uint256 which, TaskMarket.Status status) private view returns (bytes32 taskId) {
        for (uint256 i = 0; i < tasks.length; ++i) {
            taskId = tasks[(which % tasks.length + i) % tasks.length];
            if (market.statusOf(taskId) == status) return taskId;
        }
        revert NoSuchTask(status);
    }

    function root(bytes32 taskId) private view returns (bytes32 made) {
        (made,) = rewardTree(taskId, rewards[taskId], 0);
    }

    function participantSignatures(bytes32 taskId, Settlement.RoundResult memory r)
        private
        view
        returns (bytes[] memory made)
    {
        bytes[] memory all = signatures(r, MEMBERS);
        uint256[] memory order = ascending(MEMBERS);
        made = new bytes[](market.participants(taskId).length);
        uint256 n;
        for (uint256 i = 0; i < MEMBERS; ++i) {
            (address member,,) = market.seatOf(taskId, vm.addr(order[i]));
            if (member != address(0)) made[n++] = all[i];
        }
    }
}
