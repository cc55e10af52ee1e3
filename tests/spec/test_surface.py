import ast

from tests.spec.surface import RECORD, _described, changes


def test_the_public_surface_of_the_generated_client_is_the_recorded_one() -> None:
    assert changes() == "", "What users of the client can name has changed. If that is meant: make surface"


def test_the_record_names_functions_fields_and_values() -> None:
    recorded = RECORD.read_text(encoding="utf-8")
    for line in (
        "yotta_serverless_api.api.tasks.submit_task.sync: (",
        "yotta_serverless_api.models.task.Task: class()",
        "yotta_serverless_api.models.task.Task.task_id: str",
        "yotta_serverless_api.models.task_status.TaskStatus.PROCESSING = 'PROCESSING'",
        "yotta_serverless_api.client.AuthenticatedClient: class(",
    ):
        assert line in recorded


def test_a_change_that_users_see_is_a_change_of_the_surface() -> None:
    before = "class Task:\n    task_id: str\n    def get(self, name: str) -> int: ...\n    def _inner(self): ...\n"
    for old, new in (("str", "int"), ("name", "names"), ("get", "fetch"), ("-> int", "-> None"), ("Task", "Job")):
        lines = [list(_described(ast.parse(text).body[0])) for text in (before, before.replace(old, new))]
        assert lines[0] != lines[1]
    assert list(_described(ast.parse(before).body[0])) == list(
        _described(ast.parse(before.replace("_inner", "_other")).body[0])
    )
