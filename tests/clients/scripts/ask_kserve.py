"""kserve's InferenceRESTClient, versions 1 and 2. Run in its own environment; prints what it got."""

import asyncio
import json
import sys

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

facts = json.load(sys.stdin)
models = facts["models"]
base = f"http://127.0.0.1:{facts['port']}"
headers = {"authorization": f"Bearer {facts['key']}"}
found = {}


def v2_request(name, array, datatype, *, binary):
    tensor = InferInput(name="x", shape=list(array.shape), datatype=datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return InferRequest(model_name=name, infer_inputs=[tensor])


async def refusal(call):
    try:
        await call
    except httpx.HTTPStatusError as error:
        return [error.response.status_code, str(error)]
    return None


async def main():
    one, two = (InferenceRESTClient(RESTConfig(protocol=protocol)) for protocol in ("v1", "v2"))
    rows = [list(row.values()) for row in models["flowers"]["rows"]]
    found["v1"] = await one.infer(base, {"instances": rows}, model_name="flowers", headers=headers)
    found["v1_text"] = await one.infer(
        base, {"instances": [row["text"] for row in models["review"]["rows"]]}, model_name="review", headers=headers
    )
    found["v1_tensor"] = await one.infer(base, {"instances": models["mlp"]["rows"]}, model_name="mlp", headers=headers)
    found["v1_objects"] = await one.infer(
        f"{base}/acme", {"instances": models["churn"]["rows"]}, model_name="churn", headers=headers
    )
    found["v1_bad"] = await refusal(one.infer(base, {"instances": [[1]]}, model_name="flowers", headers=headers))
    found["v1_unknown"] = await refusal(one.infer(base, {"instances": rows}, model_name="nobody", headers=headers))
    found["v1_ready"] = await one.is_model_ready(base, "flowers", headers=headers)

    found["live"] = await two.is_server_live(base)
    found["ready"] = await two.is_server_ready(base)
    found["model_ready"] = await two.is_model_ready(base, "flowers", headers=headers)
    array = np.array(rows, np.float32)
    for binary in (False, True):
        answer = await two.infer(
            base, v2_request("flowers", array, "FP32", binary=binary), model_name="flowers", headers=dict(headers)
        )
        found[f"v2_binary_{binary}"] = answer.get_output_by_name("predict").as_numpy().tolist()
    texts = np.array([row["text"] for row in models["review"]["rows"]], dtype=np.object_)
    answer = await two.infer(
        base, v2_request("review", texts, "BYTES", binary=False), model_name="review", headers=dict(headers)
    )
    found["v2_text"] = [
        str(label, "utf-8") if isinstance(label, bytes) else str(label)
        for label in answer.outputs[0].as_numpy().tolist()
    ]
    answer = await two.infer(
        base,
        v2_request("mlp", np.array(models["mlp"]["rows"], np.float32), "FP32", binary=True),
        model_name="mlp",
        headers=dict(headers),
    )
    found["v2_tensor"] = [
        str(label, "utf-8") if isinstance(label, bytes) else str(label)
        for label in answer.outputs[0].as_numpy().tolist()
    ]
    found["v2_bad"] = await refusal(
        two.infer(
            base, v2_request("flowers", array[:, :2], "FP32", binary=True), model_name="flowers", headers=dict(headers)
        )
    )
    found["no_key"] = await refusal(
        two.infer(base, v2_request("flowers", array, "FP32", binary=True), model_name="flowers")
    )


asyncio.run(main())
print(json.dumps(found))
