"""The comparison of recordings, as the command that a refactoring runs."""

import json
import subprocess
import sys

import pytest
from conftest import ROOT

SCRIPT = ROOT / "tests" / "support" / "replay.py"
PROBLEM = ["Content-Type", "application/problem+json"]
REFUSAL = {
    "flavor": "none",
    "caller": "admin",
    "method": "POST",
    "target": "/images",
    "headers": [],
    "body": "{}",
    "status": 400,
    "answer": [PROBLEM, ["Content-Length", "50"]],
    "content": json.dumps({"status": 400, "detail": "image: Bad.", "errors": {"image": ["Bad."]}}),
}
REWORDED = {
    "answer": [PROBLEM, ["Content-Length", "54"]],
    "content": json.dumps({"status": 400, "detail": "image: Is bad.", "errors": {"image": ["Is bad."]}}),
}
OTHER_FIELD = {"content": json.dumps({"status": 400, "detail": "", "errors": {"body": []}})}


@pytest.mark.parametrize(
    ("change", "options", "exit_code"),
    [
        ({}, [], 0),
        ({"status": 422}, [], 1),
        ({"answer": [["Content-Length", "50"], PROBLEM]}, [], 1),
        (REWORDED, [], 1),
        (REWORDED, ["--wording"], 0),
        ({"status": 422}, ["--wording"], 1),
        (OTHER_FIELD, ["--wording"], 1),
    ],
)
def test_a_comparison_finds_what_differs(tmp_path, change, options, exit_code):
    before, after = tmp_path / "before.jsonl", tmp_path / "after.jsonl"
    before.write_text(json.dumps(REFUSAL) + "\n")
    after.write_text(json.dumps(REFUSAL | change) + "\n")

    command = [sys.executable, SCRIPT, "compare", before, after, *options]
    run = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)

    assert (run.returncode, run.stderr) == (exit_code, "")
    assert "POST      /images                                  400 × 1" in run.stdout
    assert f"1 exchanges compared, {exit_code} differ." in run.stdout
