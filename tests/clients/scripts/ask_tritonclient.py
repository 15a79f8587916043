"""tritonclient[http] as its documentation shows it: binary tensors on its defaults. Run in its own environment; prints what it got."""

import json
import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

facts = json.load(sys.stdin)
models = facts["models"]


def key():
    """A new dict for each call: this client writes its own headers into it."""
    return {"Authorization": f"Bearer {facts['key']}"}


client = triton.InferenceServerClient(f"127.0.0.1:{facts['port']}")
found = {}


def tensor(name, array, datatype, **how):
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, **how)
    return made


def refusal(call):
    try:
        call()
    except InferenceServerException as error:
        return [error.status(), error.message()]
    return None


found["live"], found["ready"] = client.is_server_live(), client.is_server_ready()
found["model_ready"] = client.is_model_ready("flowers", headers=key())
found["server"] = client.get_server_metadata()
found["metadata"] = client.get_model_metadata("flowers", headers=key())

iris = np.array([list(row.values()) for row in models["flowers"]["rows"]], np.float32)
answer = client.infer("flowers", [tensor("x", iris, "FP32")], headers=key())
found["table"] = answer.as_numpy("predict").tolist()
found["chances"] = answer.as_numpy("predict_proba").tolist()
for encoding in ("gzip", "deflate"):
    answer = client.infer("flowers", [tensor("x", iris, "FP32")], headers=key(), request_compression_algorithm=encoding)
    found[encoding] = answer.as_numpy("predict").tolist()
answer = client.infer(
    "flowers",
    [tensor("x", iris, "FP32", binary_data=False)],
    headers=key(),
    model_version="1",
    outputs=[triton.InferRequestedOutput("predict", binary_data=False)],
    request_id="mine",
)
found["json"] = [answer.get_response()["id"], answer.as_numpy("predict").tolist()]

texts = np.array([row["text"].encode() for row in models["review"]["rows"]], dtype=np.object_)
found["text"] = [
    label.decode()
    for label in client.infer("review", [tensor("text", texts, "BYTES")], headers=key()).as_numpy("predict")
]

churn = models["churn"]["rows"]
columns = [
    tensor("plan", np.array([[row["plan"]] for row in churn], dtype=np.object_), "BYTES"),
    tensor("months", np.array([[row["months"]] for row in churn], np.float64), "FP64"),
    tensor(
        "spend", np.array([[np.nan if row["spend"] is None else row["spend"]] for row in churn], np.float64), "FP64"
    ),
]
found["columns"] = [label.decode() for label in client.infer("churn", columns, headers=key()).as_numpy("predict")]

mlp = np.array(models["mlp"]["rows"], np.float32)
found["tensor"] = [
    label.decode() for label in client.infer("mlp", [tensor("input", mlp, "FP32")], headers=key()).as_numpy("predict")
]

# Basic authentication and the organisation in the path, with what the client has for both.
from tritonclient.http.auth import BasicAuth  # noqa: E402

other = triton.InferenceServerClient(f"127.0.0.1:{facts['port']}/acme")
other.register_plugin(BasicAuth("any", facts["key"]))
found["basic"] = other.infer("flowers", [tensor("x", iris, "FP32")]).as_numpy("predict").tolist()

found["no_key"] = refusal(lambda: client.infer("flowers", [tensor("x", iris, "FP32")]))
found["unknown"] = refusal(lambda: client.infer("nobody", [tensor("x", iris, "FP32")], headers=key()))
found["bad_shape"] = refusal(lambda: client.infer("flowers", [tensor("x", iris[:, :3].copy(), "FP32")], headers=key()))
found["bad_output"] = refusal(
    lambda: client.infer(
        "flowers", [tensor("x", iris, "FP32")], headers=key(), outputs=[triton.InferRequestedOutput("no")]
    )
)

admin = {"Authorization": f"Bearer {facts['admin_key']}"}
found["index"] = client.get_model_repository_index(headers=admin)
client.unload_model("mlp", headers=admin)
found["unloaded"] = client.is_model_ready("mlp", headers=key())
client.load_model("mlp", headers=admin)
found["loaded"] = client.is_model_ready("mlp", headers=key())
found["not_admin"] = refusal(lambda: client.unload_model("mlp", headers=key()))
print(json.dumps(found))
