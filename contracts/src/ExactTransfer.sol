// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

/// @title Deposits that arrive whole or not at all.
library ExactTransfer {
    using SafeERC20 for IERC20;

    error FeeOnTransfer(uint256 sent, uint256 arrived);

    /// @notice Take `amount` from the sender; a token that keeps a part on the way would leave the books above the
    /// balance.
    /// @dev The caller holds a reentrancy guard over everything else that moves this token.
    function pull(IERC20 token, uint256 amount) internal {
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), amount);
        uint256 arrived = token.balanceOf(address(this)) - before;
        if (arrived != amount) revert FeeOnTransfer(amount, arrived);
    }
}
