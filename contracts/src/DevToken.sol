// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title A token that anybody may mint, for development chains only.
contract DevToken is ERC20 {
    constructor() ERC20("Covey development token", "DEV") {}

    /// @notice Make `amount` base units out of nothing.
    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }
}
