"""What Slipway runs in its sandbox when this deployment is to be trained again."""

import json
import os

import joblib
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder


def new_model():
    """Texts become one column per level; missing numbers are the forest's own business."""
    texts = (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number"))
    return make_pipeline(
        make_column_transformer(texts, remainder="passthrough"), RandomForestClassifier(n_estimators=30, random_state=0)
    )


def train(data_dir, out_dir):
    about = json.load(open(os.path.join(data_dir, "about.json")))
    rows = pd.read_csv(os.path.join(data_dir, "recent.csv"))
    rows = rows[rows["actual"].notna()]
    print(f"{about['deployment']}: {len(rows)} labelled rows, since {about['window']['since']}")

    inputs, labels = rows[about["inputs"]], rows["actual"]
    model = new_model().fit(inputs, labels)
    joblib.dump(model, os.path.join(out_dir, "model.joblib"))
    return {"rows": len(rows), "accuracy_on_training_rows": model.score(inputs, labels)}
