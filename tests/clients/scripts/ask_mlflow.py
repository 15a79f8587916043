"""mlflow's ScoringServerClient, unmodified: the key travels as Basic in the address, the deployment's path behind the port. Prints what it got."""

import json
import sys

import numpy as np
import pandas as pd
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

facts = json.load(sys.stdin)
models = facts["models"]
found = {}


def client(name, key=facts["key"]):
    return ScoringServerClient(f"key:{key}@127.0.0.1", f"{facts['port']}/api/v1/predict/acme/{name}")


def refusal(call):
    try:
        call()
    except Exception as error:  # noqa: BLE001  this client raises Exception itself
        return str(error)
    return None


flowers = client("flowers")
flowers.wait_server_ready(timeout=10)
found["version"] = flowers.get_version()
frame = pd.DataFrame(models["flowers"]["rows"])
found["frame"] = flowers.invoke(frame)["predictions"]
found["frame_predictions"] = flowers.invoke(frame).get_predictions().iloc[:, 0].tolist()
found["array"] = flowers.invoke(frame.to_numpy())["predictions"]
found["surplus"] = flowers.invoke(frame.assign(surplus=1))["predictions"]
found["params"] = flowers.invoke(frame, params={"temperature": 0.5})["predictions"]
found["churn"] = client("churn").invoke(pd.DataFrame(models["churn"]["rows"]))["predictions"]
found["text"] = client("review").invoke(pd.DataFrame(models["review"]["rows"]))["predictions"]
found["tensor"] = client("mlp").invoke(np.array(models["mlp"]["rows"], np.float32))["predictions"]
found["missing"] = refusal(lambda: flowers.invoke(frame.drop(columns="sepal_width")))
found["wrong"] = refusal(lambda: flowers.invoke([{"sepal_length": "long"}]))
found["no_key"] = refusal(lambda: client("flowers", "sk_live_no").invoke(frame))
found["unknown"] = refusal(client("nobody").ping)
print(json.dumps(found))
