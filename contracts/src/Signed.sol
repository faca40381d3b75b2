// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MemberRegistry} from "./MemberRegistry.sol";
import {TaskMarket} from "./TaskMarket.sol";

/// @title What session keys have signed (EIP-712), and whose keys they are.
abstract contract Signed is EIP712 {
    error BadSignature(uint256 index);
    error WrongSigner(address site, address signer);
    error TaskNotStarted(bytes32 taskId, TaskMarket.Status status);
    error ForeignMarket(TaskMarket market);

    MemberRegistry public immutable registry;
    TaskMarket public immutable market;

    /// @param market_ names this contract's address, as its deployer knew it beforehand.
    constructor(TaskMarket market_) EIP712("Covey", "1") {
        if (address(market_.settlement()) != address(this)) revert ForeignMarket(market_);
        market = market_;
        registry = market_.registry();
    }

    /// @dev The `index` only tells the caller which of its signatures is bad.
    function _signer(bytes32 digest, bytes calldata signature, uint256 index) internal pure returns (address) {
        // slither-disable-next-line unused-return - the third value only details the problem
        (address signer, ECDSA.RecoverError problem,) = ECDSA.tryRecoverCalldata(digest, signature);
        if (problem != ECDSA.RecoverError.NoError) revert BadSignature(index);
        return signer;
    }

    /// @dev Called when a member has been expelled.
    function _leave(bytes32 taskId, uint8 place, uint96 stake) internal virtual;

    /// @dev Called when a member has been removed: takes back what it has answered to a call that is not over.
    function _silence(bytes32 taskId, uint8 place, uint96 stake) internal virtual;

    /// @dev The seat of `site`, which must have signed the structure itself.
    function _seatOf(bytes32 taskId, address site, bytes32 structHash, bytes calldata signature, uint256 index)
        internal
        view
        returns (uint8 place, uint96 stake)
    {
        address signer = _signer(_hashTypedDataV4(structHash), signature, index);
        address member;
        (member, place, stake) = market.seatOf(taskId, signer);
        if (member != site || site == address(0)) revert WrongSigner(site, signer);
    }
}
