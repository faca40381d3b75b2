"""A signer in a process of its own, by Web3Signer's protocol in its mode eth1: `signer_process.py PORT CHAIN KEY…`.

As in Web3Signer, the chain is the signer's own setting; whatever the request says of it is passed over.
"""

from __future__ import annotations

import base64
import sys
from typing import Any

from aiohttp import web
from eth_account import Account
from eth_account.signers.local import LocalAccount

PASSWORD = "me:hidden"


def main(port: int, chain_id: int, keys: list[str]) -> None:
    accounts: dict[str, LocalAccount] = {Account.from_key(key).address.lower(): Account.from_key(key) for key in keys}

    def sign(transaction: dict[str, Any]) -> dict[str, Any]:
        account = accounts.get(transaction.pop("from").lower())
        if account is None:
            return {"error": {"code": -32000, "message": "from is not an unlocked account"}}
        signed = account.sign_transaction({**transaction, "chainId": chain_id})
        return {"result": "0x" + signed.raw_transaction.hex()}

    async def answer(request: web.Request) -> web.Response:
        wanted = "Basic " + base64.b64encode(PASSWORD.encode()).decode()
        if request.headers.get("Authorization") != wanted:
            return web.Response(status=401, text="who are you?")
        asked = await request.json()
        assert asked["method"] == "eth_signTransaction", asked
        return web.json_response({"jsonrpc": "2.0", "id": asked["id"], **sign(*asked["params"])})

    app = web.Application()
    app.add_routes([web.post("/", answer)])
    web.run_app(app, host="127.0.0.1", port=port, print=None)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
