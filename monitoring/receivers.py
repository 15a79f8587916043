"""What to paste into a receiver of our webhooks: it looks at the signature before it believes a word."""

from __future__ import annotations

_PYTHON = """# pip install standardwebhooks fastapi uvicorn
import os

from fastapi import FastAPI, HTTPException, Request
from standardwebhooks import Webhook, WebhookVerificationError

app = FastAPI()


@app.post("/hooks/slipway")
async def slipway(request: Request):
    try:
        message = Webhook(os.environ["SLIPWAY_WEBHOOK_SECRET"]).verify(await request.body(), dict(request.headers))
    except WebhookVerificationError:
        raise HTTPException(400, "not signed by Slipway")
    # request.headers["webhook-id"] stays the same when a message is sent again: drop what you have had
    print(message["type"], message["data"])
    return {"taken": True}
"""

_NODE = """// npm install standardwebhooks express
import express from "express";
import { Webhook } from "standardwebhooks";

const app = express();
app.post("/hooks/slipway", express.raw({ type: "application/json" }), (request, response) => {
  let message;
  try {
    message = new Webhook(process.env.SLIPWAY_WEBHOOK_SECRET).verify(request.body, request.headers);
  } catch {
    return response.status(400).send("not signed by Slipway");
  }
  console.log(message.type, message.data);
  response.json({ taken: true });
});
app.listen(8080);
"""

_SHELL = """# any language: HMAC-SHA256 over "id.timestamp.body" with the decoded secret, compared in constant time
key=$(printf %s "${SLIPWAY_WEBHOOK_SECRET#whsec_}" | base64 -d | od -An -tx1 -v | tr -d ' \\n')
printf %s "$webhook_id.$webhook_timestamp.$body" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | base64
# one of the v1,... in webhook-signature must be this; refuse a webhook-timestamp more than 5 minutes away
"""


def snippets() -> list[dict[str, str]]:
    return [
        {"label": "Python", "code": _PYTHON},
        {"label": "Node", "code": _NODE},
        {"label": "Shell", "code": _SHELL},
    ]
