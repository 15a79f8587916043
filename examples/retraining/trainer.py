"""A trainer that Slipway calls: verifies the signature, answers at once, fetches the rows, trains, pushes the candidate back.

    SLIPWAY_WEBHOOK_SECRET=whsec_... python trainer.py 8099

Standard library, pandas and scikit-learn. Put it behind https before anybody but you can reach it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import json
import os
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import joblib
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

SECRET = os.environ.get("SLIPWAY_WEBHOOK_SECRET", "")
seen: set[str] = set()


def verified(headers, body: bytes) -> bool:
    """Standard Webhooks: HMAC-SHA256 over id.timestamp.body, base64, one of several signatures, not older than five minutes."""
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    signed = b".".join((headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body))
    mine = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    fresh = abs(time.time() - int(headers["webhook-timestamp"])) < 300
    return fresh and any(hmac.compare_digest(mine, each) for each in headers["webhook-signature"].split(" "))


def fetch(url: str, token: str) -> bytes:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def push(url: str, token: str, files: dict[str, bytes], metadata: dict) -> dict:
    """A form with the files of a folder, like ``curl -F files=@model.joblib``."""
    mark = uuid.uuid4().hex
    parts = [f'--{mark}\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n{json.dumps(metadata)}\r\n'.encode()]
    for name, content in files.items():
        head = f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        parts += [head.encode(), content, b"\r\n"]
    body = b"".join([*parts, f"--{mark}--\r\n".encode()])
    headers = {"Authorization": f"Bearer {token}", "Content-Type": f"multipart/form-data; boundary={mark}"}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=120) as answer:
        return json.load(answer)


def new_model():
    """Texts become one column per level; missing numbers are the forest's own business."""
    texts = (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number"))
    return make_pipeline(
        make_column_transformer(texts, remainder="passthrough"), RandomForestClassifier(n_estimators=30, random_state=0)
    )


def train(data: dict) -> None:
    rows = pd.read_csv(io.BytesIO(fetch(data["links"]["data"]["recent.csv"], data["tokens"]["data"])))
    facts = ["prediction_id", "predicted_at", "version", "prediction", "actual"]
    labelled = rows[rows["actual"].notna()]
    inputs = [name for name in rows.columns if name not in facts]
    model = new_model().fit(labelled[inputs], labelled["actual"])
    with tempfile.NamedTemporaryFile() as file:
        joblib.dump(model, file.name)
        content = open(file.name, "rb").read()
    said = {"description": f"Trained on {len(labelled)} labelled rows", "metrics": {"rows": len(labelled)}}
    pushed = push(data["links"]["candidate"], data["tokens"]["push"], {"model.joblib": content}, said)
    print(f"retraining {data['retraining']}: pushed version {pushed['version']}", flush=True)


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not verified(self.headers, body):
            self.send_error(401)
            return
        message = json.loads(body)
        new = self.headers["webhook-id"] not in seen  # the same message may come twice
        seen.add(self.headers["webhook-id"])
        if new and message["type"] == "retraining.requested":
            threading.Thread(target=train, args=(message["data"],)).start()
        self.send_response(202)
        self.end_headers()


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
