"""Floor of the benchmark: the cost of Flask, gunicorn and sqlite3 alone."""

import ast
import json
import os
from pathlib import Path

from flask import Flask, Response

from config import read_settings
from storage import engine


def create_app() -> Flask:
    """Return the application: constants of BENCH_ANSWERS, or commits."""
    app = Flask("floor", static_folder=None)
    if "BENCH_ANSWERS" in os.environ:
        constants = json.loads(Path(os.environ["BENCH_ANSWERS"]).read_text())
        for key, constant in constants.items():
            app.add_url_rule(f"/{key}", key, constant_view(**constant))
    else:
        commits = Commits(read_settings().database)
        app.add_url_rule("/batch", "batch", commits.load, methods=["POST"])
        app.add_url_rule("/<int:number>", "commit", commits.commit, methods=["POST", "PUT", "DELETE"])
    return app


def constant_view(status, body, headers):
    content = body.encode()
    if status == 304:
        return lambda: Response(status=304)
    return lambda: Response(content, status, headers, mimetype="application/json")


class Commits:
    """Views that commit one batch entry's statements with raw sqlite3 and our pragmas, for a single thread."""

    def __init__(self, settings):
        engine.open_database(settings)
        self.connection = None
        self.batch = []

    def load(self):
        """Read [(statements, answer)] of BENCH_BATCH; a statement is (sql, values)."""
        self.connection = self.connection or engine.database.connection()
        self.batch = ast.literal_eval(Path(os.environ["BENCH_BATCH"]).read_text())
        return ""

    def commit(self, number):
        statements, answer = self.batch[number]
        execute = self.connection.execute
        execute("BEGIN IMMEDIATE")
        for statement, values in statements:
            execute(statement, values)
        execute("COMMIT")
        return Response(answer, mimetype="application/json")
