// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {DevToken} from "../src/DevToken.sol";

/// A token that keeps a tenth of what is sent.
contract GreedyToken is ERC20("Greedy", "GRD") {
    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (from != address(0) && to != address(0)) super._update(to, address(0xdead), amount / 10);
    }
}

/// A token that refuses to pay one address.
contract MoodyToken is DevToken {
    error Refused(address to);

    address private refused;

    function refuse(address who) external {
        refused = who;
    }

    function _update(address from, address to, uint256 amount) internal override {
        if (to != address(0) && to == refused) revert Refused(to);
        super._update(from, to, amount);
    }
}

/// A token that calls somebody while it is being sent, as ERC-777 does.
contract GreetingToken is DevToken {
    address private target;
    bytes private message;
    bool public greeted;
    bool public succeeded;

    function onReceive(address target_, bytes calldata message_) external {
        (target, message) = (target_, message_);
    }

    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (target == address(0)) return;
        greeted = true;
        (succeeded,) = target.call(message);
    }
}
