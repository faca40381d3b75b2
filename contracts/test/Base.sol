// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {DevToken} from "../src/DevToken.sol";
import {MemberRegistry} from "../src/MemberRegistry.sol";
import {ISettlement, TaskMarket} from "../src/TaskMarket.sol";
import {Appeals} from "../src/Appeals.sol";
import {Fallback} from "../src/Fallback.sol";
import {FraudProofs} from "../src/FraudProofs.sol";
import {Settlement} from "../src/Settlement.sol";

/// The cheat codes that these tests use (Foundry Book, "Cheatcodes").
interface Vm {
    function prank(address sender) external;
    function startPrank(address sender) external;
    function stopPrank() external;
    function warp(uint256 timestamp) external;
    function roll(uint256 block_) external;
    function expectRevert(bytes calldata reason) external;
    function expectPartialRevert(bytes4 selector) external;
    function expectEmit(address emitter) external;
    function getNonce(address account) external view returns (uint64);
    function computeCreateAddress(address deployer, uint256 nonce) external pure returns (address);
    function addr(uint256 key) external pure returns (address);
    function sign(uint256 key, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);
    function assume(bool condition) external pure;
    function snapshotGasLastCall(string calldata group, string calldata name) external returns (uint256);
}

/// Contracts, a consortium, and members whose owner keys are 1… and whose session keys are 101….
abstract contract Base {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    uint256 internal constant STAKE = 1000 ether;
    uint256 internal constant AUDITOR = 7777; // key
    bytes internal constant SPEC = '{"name":"wdbc"}';

    DevToken internal token;
    MemberRegistry internal registry;
    TaskMarket internal market;
    Settlement internal settlement;
    Fallback internal quorumFallback;
    bytes32 internal consortium;

    function setUp() public virtual {
        token = new DevToken();
        address expected = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 1);
        market = new TaskMarket(ISettlement(expected));
        settlement = new Settlement(market);
        quorumFallback = Fallback(address(settlement.quorumFallback()));
        registry = settlement.registry();
        consortium = registry.createConsortium(
            "oncology-eu", IERC20(address(token)), 10 ether, MemberRegistry.Admission.Open, 7 days
        );
    }

    function owner(uint256 i) internal pure returns (address) {
        return vm.addr(i + 1);
    }

    function session(uint256 i) internal pure returns (address) {
        return vm.addr(i + 101);
    }

    function enroll(uint256 i, uint256 amount) internal {
        token.mint(owner(i), amount + 1_000_000 ether);
        vm.startPrank(owner(i));
        registry.join(consortium, 7, keccak256(abi.encode("tls", i)), "10.0.0.1", 0, "certificate");
        token.approve(address(registry), type(uint256).max);
        token.approve(address(market), type(uint256).max);
        if (amount > 0) registry.stake(consortium, amount);
        vm.stopPrank();
    }

    function terms(uint256 bounty, uint16 members) internal view returns (TaskMarket.Terms memory) {
        return TaskMarket.Terms({
            consortium: consortium,
            specHash: keccak256(SPEC),
            token: IERC20(address(token)),
            bounty: bounty,
            minMembers: members,
            maxMembers: members,
            rounds: 20,
            acceptBy: uint64(block.timestamp + 1 days),
            deadline: uint64(block.timestamp + 2 days),
            answerWindow: 60,
            appealWindow: 3 days,
            fallbackWindow: 60,
            auditor: vm.addr(AUDITOR),
            salt: keccak256("uid")
        });
    }

    function publish(uint256 bounty, uint16 members) internal returns (bytes32 taskId) {
        TaskMarket.Terms memory wanted = terms(bounty, members);
        vm.prank(owner(0));
        taskId = market.publish(wanted, SPEC);
    }

    function started(uint256 bounty, uint16 members) internal returns (bytes32) {
        return startedIn(token, bounty, members);
    }

    /// A started task whose bounty is in a token of its own.
    function startedIn(DevToken bountyToken, uint256 bounty, uint16 members) internal returns (bytes32 taskId) {
        for (uint256 i = 0; i < members; ++i) {
            enroll(i, STAKE);
        }
        bountyToken.mint(owner(0), bounty);
        TaskMarket.Terms memory wanted = terms(bounty, members);
        wanted.token = IERC20(address(bountyToken));
        vm.startPrank(owner(0));
        bountyToken.approve(address(market), bounty);
        taskId = market.publish(wanted, SPEC);
        vm.stopPrank();
        for (uint256 i = 0; i < members; ++i) {
            vm.prank(owner(i));
            market.accept(taskId, 6, session(i), "10.0.0.1:7443");
        }
        market.start(taskId);
    }

    function result(bytes32 taskId, uint64 round, bytes32 root, uint256 total, bool last)
        internal
        pure
        returns (Settlement.RoundResult memory)
    {
        return Settlement.RoundResult(taskId, round, 0, keccak256("model"), 0, 0, root, 0, total, true, last);
    }

    /// A result without rewards that carries a ledger of penalties.
    function resultWith(bytes32 taskId, uint64 round, bytes memory ledger)
        internal
        pure
        returns (Settlement.RoundResult memory r)
    {
        r = result(taskId, round, 0, 0, false);
        if (ledger.length > 0) r.penalties = keccak256(ledger);
    }

    /// One entry of a ledger of penalties; flags are 1 removed, 2 appealing.
    function entry(uint8 place, uint8 flags, uint96 held, uint96 slashed) internal pure returns (bytes memory) {
        return abi.encodePacked(place, flags, held, slashed);
    }

    /// The first `n` session keys in ascending order of their addresses.
    function ascending(uint256 n) internal pure returns (uint256[] memory keys) {
        keys = new uint256[](n);
        for (uint256 i = 0; i < n; ++i) {
            keys[i] = i + 101;
        }
        sort(keys);
    }

    function sorted(uint256[3] memory keys) internal pure returns (uint256[] memory list) {
        list = new uint256[](3);
        (list[0], list[1], list[2]) = (keys[0], keys[1], keys[2]);
        sort(list);
    }

    /// Sort keys by their addresses.
    function sort(uint256[] memory keys) internal pure {
        for (uint256 i = 1; i < keys.length; ++i) {
            for (uint256 j = i; j > 0 && vm.addr(keys[j]) < vm.addr(keys[j - 1]); --j) {
                (keys[j], keys[j - 1]) = (keys[j - 1], keys[j]);
            }
        }
    }

    /// Signatures of the first `n` session keys in ascending order of their addresses.
    function signatures(Settlement.RoundResult memory r, uint256 n) internal view returns (bytes[] memory made) {
        return signaturesBy(settlement.digestOf(r), ascending(n));
    }

    function rollCallDigest(bytes32 taskId, uint32 epoch, address site, bytes memory evidence)
        internal
        view
        returns (bytes32)
    {
        bytes32 typehash = keccak256("RollCall(bytes32 taskId,uint32 epoch,address site,bytes32 evidenceHash)");
        return digestOf(keccak256(abi.encode(typehash, taskId, epoch, site, keccak256(evidence))));
    }

    /// The EIP-712 digest of any structure in the contracts' domain.
    function digestOf(bytes32 structHash) internal view returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Covey"),
                keccak256("1"),
                block.chainid,
                address(settlement)
            )
        );
        return keccak256(abi.encodePacked(hex"1901", domain, structHash));
    }

    function voteHash(FraudProofs.Vote memory v) internal pure returns (bytes32) {
        bytes32 typehash =
            keccak256("Vote(bytes32 taskId,uint64 round,uint8 step,uint32 view,uint8 kind,bytes32 value,address site)");
        return keccak256(abi.encode(typehash, v));
    }

    function verdictHash(Appeals.AuditVerdict memory v) internal pure returns (bytes32) {
        bytes32 typehash =
            keccak256("AuditVerdict(bytes32 taskId,address member,uint32 epoch,bool authentic,bytes32 findingsHash)");
        return keccak256(abi.encode(typehash, v));
    }

    /// Prove that the `i`th member has voted twice.
    function proveTwoVotes(bytes32 taskId, uint256 i, uint256 key, address reporter) internal {
        FraudProofs.Vote memory a = FraudProofs.Vote(taskId, 1, 0, 0, 1, "a", owner(i));
        FraudProofs.Vote memory b = FraudProofs.Vote(taskId, 1, 0, 0, 1, "b", owner(i));
        bytes memory signatureA = signatureBy(key, digestOf(voteHash(a)));
        bytes memory signatureB = signatureBy(key, digestOf(voteHash(b)));
        settlement.proveConflictingVote(a, signatureA, b, signatureB, reporter);
    }

    /// Carry the answer of the `i`th member.
    function answer(bytes32 taskId, uint32 epoch, uint256 i) internal {
        bytes memory evidence = abi.encode("locked by", i);
        bytes memory signature = signatureBy(i + 101, rollCallDigest(taskId, epoch, owner(i), evidence));
        settlement.answerRollCall(taskId, epoch, owner(i), evidence, signature);
    }

    function signaturesBy(bytes32 digest, uint256[] memory keys) internal pure returns (bytes[] memory made) {
        made = new bytes[](keys.length);
        for (uint256 i = 0; i < keys.length; ++i) {
            made[i] = signatureBy(keys[i], digest);
        }
    }

    function signatureBy(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }

    function joined(bytes[] memory parts) internal pure returns (bytes memory whole) {
        for (uint256 i = 0; i < parts.length; ++i) {
            whole = bytes.concat(whole, parts[i]);
        }
    }

    function leaf(bytes32 taskId, address member, uint256 cumulative) internal pure returns (bytes32) {
        return keccak256(bytes.concat(keccak256(abi.encode(taskId, member, cumulative))));
    }

    /// Root of the tree of a task's cumulative rewards, and the proof for one place: what `covey_chain.merkle` makes.
    function rewardTree(bytes32 taskId, uint256[] memory rewards, uint256 place)
        internal
        view
        returns (bytes32, bytes32[] memory proof)
    {
        address[] memory members = market.participants(taskId);
        bytes32[] memory nodes = new bytes32[](members.length);
        for (uint256 i = 0; i < nodes.length; ++i) {
            nodes[i] = leaf(taskId, members[i], rewards[i]);
            for (uint256 j = i; j > 0 && nodes[j] < nodes[j - 1]; --j) {
                (nodes[j], nodes[j - 1]) = (nodes[j - 1], nodes[j]);
            }
        }
        uint256 index = 0;
        while (nodes[index] != leaf(taskId, members[place], rewards[place])) ++index;
        bytes32[] memory siblings = new bytes32[](8);
        uint256 height = 0;
        for (uint256 width = nodes.length; width > 1; width = (width + 1) / 2) {
            if ((index ^ 1) < width) siblings[height++] = nodes[index ^ 1];
            for (uint256 i = 0; i < width; i += 2) {
                nodes[i / 2] = i + 1 < width ? parent(nodes[i], nodes[i + 1]) : nodes[i];
            }
            index /= 2;
        }
        proof = new bytes32[](height);
        for (uint256 i = 0; i < height; ++i) {
            proof[i] = siblings[i];
        }
        return (nodes[0], proof);
    }

    function wide(uint256 a, uint256 b, uint256 c) internal pure returns (uint256[] memory list) {
        list = new uint256[](3);
        (list[0], list[1], list[2]) = (a, b, c);
    }

    function parent(bytes32 a, bytes32 b) internal pure returns (bytes32) {
        return a < b ? keccak256(abi.encode(a, b)) : keccak256(abi.encode(b, a));
    }

    // --- fallback ---------------------------------------------------------------------------------------------------

    function packed(uint128[] memory amounts) internal pure returns (bytes memory whole) {
        for (uint256 i = 0; i < amounts.length; ++i) {
            whole = abi.encodePacked(whole, amounts[i]);
        }
    }

    /// Commit as the `i`th member; its salt is its address.
    function commitRewards(bytes32 taskId, uint256 i, uint128[] memory rewards) internal {
        bytes32 salt = bytes32(uint256(uint160(owner(i))));
        bytes32 commitment = quorumFallback.digestOf(taskId, owner(i), packed(rewards), salt);
        vm.prank(owner(i));
        quorumFallback.commit(taskId, owner(i), commitment);
    }

    function revealRewards(bytes32 taskId, uint256 i, uint128[] memory rewards) internal {
        quorumFallback.reveal(taskId, owner(i), packed(rewards), bytes32(uint256(uint160(owner(i)))));
    }

    /// The smallest amount with at most half of the stake above it; by trying each.
    function medianOf(uint128[] memory amounts, uint256[] memory stakes) internal pure returns (uint128 median) {
        uint256 total = 0;
        for (uint256 i = 0; i < stakes.length; ++i) {
            total += stakes[i];
        }
        median = type(uint128).max;
        for (uint256 i = 0; i < amounts.length; ++i) {
            uint256 above = 0;
            for (uint256 j = 0; j < amounts.length; ++j) {
                if (amounts[j] > amounts[i]) above += stakes[j];
            }
            if (2 * above <= total && amounts[i] < median && stakes[i] > 0) median = amounts[i];
        }
    }

    error NotEqual(uint256 found, uint256 wanted);

    function assertEq(uint256 a, uint256 b) internal pure {
        if (a != b) revert NotEqual(a, b);
    }

    function assertTrue(bool condition) internal pure {
        require(condition, "not true");
    }
}
