"""What the demo does, step by step; with ``check`` each step's promise is asserted."""

from __future__ import annotations

import email
import email.policy
import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlops.demo.client import Client, DemoFailed

MODELS: dict[str, dict[str, Any]] = {
    "diabetes": {
        "file": "diabetes.joblib",
        "metadata": {"framework": "scikit-learn", "description": "Does diabetes progress faster than the median?"},
    },
    "tumour": {
        "file": "tumour.ubj",
        "metadata": {"framework": "xgboost", "description": "Benign (1) or malignant (0), from ten measurements."},
    },
    "wine": {
        "file": "wine.pt2",
        "metadata": {
            "framework": "pytorch",
            "description": "Which of three wines is it?",
            "output": {"task": "classifier", "classes": ["barolo", "grignolino", "barbera"], "activation": "softmax"},
        },
    },
}
DRIFTING = "diabetes"
NORMAL_ROWS, SHIFTED_ROWS, ROWS_PER_CALL = 600, 1200, 4
TOLERANCE = 1e-5


class Scenario:
    def __init__(self, client: Client, folder: Path, mail_folder: Path, tell: Callable[[str], None]) -> None:
        self.client, self.folder, self.mail_folder, self.tell = client, folder, mail_folder, tell
        self.random = random.Random(11)  # noqa: S311  which rows are sent, the same at each run

    def train(self) -> None:
        self.tell("Training three small models (scikit-learn, XGBoost, PyTorch) ...")
        subprocess.run([sys.executable, "-m", "mlops.demo.train", str(self.folder)], check=True)

    def push_all(self) -> None:
        for name in MODELS:
            self.push(name)

    def push(self, name: str) -> None:
        """Upload, watch the validation, wait until it is live."""
        self.tell(f"Pushing {name} ...")
        pushed = self.client.push(
            name,
            self.folder / MODELS[name]["file"],
            sample=self.folder / f"{name}.sample.json",
            reference=self.folder / f"{name}.reference.csv",
            metadata=MODELS[name]["metadata"],
        )
        self.client.follow(pushed["job"]["id"], lambda text: self.tell(f"  {text}"))

        def live() -> bool:
            found = self.client.deployment(name)
            return found is not None and found["status"] == "live"

        self.client.wait(f"{name} to be live", live)
        self.tell(f"  live at {self.client.url}/api/v1/predict/{self.client.org}/{name}")

    def compare(self, name: str) -> None:
        """The API's predictions equal those of the model run locally. Raises DemoFailed."""
        expected = json.loads((self.folder / f"{name}.expected.json").read_text(encoding="utf-8"))
        got = self.client.predict(name, expected["inputs"])
        if got["predictions"] != expected["predictions"]:
            raise DemoFailed(f"{name} predicts {got['predictions']}, locally {expected['predictions']}.")
        worst = max(
            abs(a - b)
            for left, right in zip(got["probabilities"], expected["probabilities"], strict=True)
            for a, b in zip(left, right, strict=True)
        )
        if worst > TOLERANCE:
            raise DemoFailed(f"{name}: probabilities differ by {worst:.2g} from the local model.")
        self.tell(
            f"  {name}: {len(expected['inputs'])} predictions equal the local model (largest difference {worst:.1g})"
        )

    def rows(self, name: str) -> list[dict[str, Any]]:
        return json.loads((self.folder / f"{name}.rows.json").read_text(encoding="utf-8"))

    def send(self, name: str, count: int, change: Callable[[dict[str, Any]], dict[str, Any]] | None = None) -> None:
        """``count`` rows drawn from the training data, a few per request; then wait until all are in the log."""
        before, rows = self.client.requests_logged(name), self.rows(name)
        calls = count // ROWS_PER_CALL
        for _ in range(calls):
            drawn = self.random.choices(rows, k=ROWS_PER_CALL)
            self.client.predict(name, [change(row) if change else row for row in drawn])
        self.client.wait("the prediction log", lambda: self.client.requests_logged(name) >= before + calls)

    def normal_traffic(self) -> None:
        self.tell(f"Sending {NORMAL_ROWS} normal rows to each model ...")
        for name in MODELS:
            self.send(name, NORMAL_ROWS)
        for name in MODELS:
            self.expect_verdict(name, "ok")

    def shifted_traffic(self) -> None:
        self.tell(
            f"Sending {SHIFTED_ROWS} shifted rows to {DRIFTING} (blood pressure in other units, heavier people) ..."
        )
        self.send(DRIFTING, SHIFTED_ROWS, shifted)
        self.expect_verdict(DRIFTING, "drift")
        for name in MODELS:
            if name != DRIFTING:
                self.expect_verdict(name, "ok")

    def expect_verdict(self, name: str, verdict: str) -> None:
        found = self.client.check_drift(name, lambda _: None)
        if found["verdict"] != verdict:
            raise DemoFailed(
                f"Drift of {name} is {found['verdict']!r} instead of {verdict!r}: {json.dumps(found)[:800]}"
            )
        moved = [column["name"] for column in found["columns"] if column["severity"] == "drift"]
        self.tell(f"  {name}: {verdict}" + (f" in {', '.join(moved)}" if moved else ""))
        if verdict == "drift" and "blood_pressure" not in moved:
            raise DemoFailed(f"The shifted column blood_pressure is not named: {moved}")

    def alert(self) -> Path:
        """The mail that tells about it, as a file."""
        found: Path = self.client.wait("the alert mail", self._alert_mail, seconds=150)
        self.tell(f"  mail written: {found}")
        return found

    def _alert_mail(self) -> Path | None:
        found = (path for path, subject, text in self.mails() if DRIFTING in subject and "blood_pressure" in text)
        return next(found, None)

    def mails(self) -> list[tuple[Path, str, str]]:
        """Path, subject and plain text of every mail that was written."""
        return [self._read(path) for path in sorted(self.mail_folder.glob("*.eml"))]

    def _read(self, path: Path) -> tuple[Path, str, str]:
        message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        body = message.get_body(("plain",))
        return path, str(message["Subject"]), body.get_content() if body is not None else ""

    def confirm_address(self, address: str) -> None:
        """Follow the link of the mail that was sent at registration."""
        link: str = self.client.wait("the confirmation mail", self._confirmation_link)
        self.client.confirm_address(link)
        self.tell(f"  {address} confirmed by the link in its mail")

    def _confirmation_link(self) -> str | None:
        found = (
            re.search(rf"{re.escape(self.client.url)}/accounts/confirm-email/\S+", text) for _, _, text in self.mails()
        )
        return next((match[0] for match in found if match), None)

    def curl(self) -> str:
        row = json.dumps({"inputs": self.rows(DRIFTING)[:1]})
        return (
            f"curl -s {self.client.url}/api/v1/predict/{self.client.org}/{DRIFTING} \\\n"
            f"  -H 'Authorization: Bearer {self.client.key}' -H 'Content-Type: application/json' \\\n  -d '{row}'"
        )

    def check_curl(self) -> None:
        """The printed command works as it stands, in a shell."""
        answer = subprocess.run(["sh", "-c", self.curl()], capture_output=True, text=True, timeout=60, check=True)
        if "predictions" not in json.loads(answer.stdout):
            raise DemoFailed(f"The printed curl command answered {answer.stdout[:300]}")
        self.tell("  the printed curl command works")


def shifted(row: dict[str, Any]) -> dict[str, Any]:
    """mmHg became kPa, and the people are heavier."""
    bmi = row["bmi"] * 1.25
    weight_class = "normal" if bmi <= 25 else "overweight" if bmi <= 30 else "obese"
    return {**row, "blood_pressure": row["blood_pressure"] * 0.133, "bmi": bmi, "weight_class": weight_class}
