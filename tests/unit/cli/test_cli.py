from pathlib import Path

import pytest
from click.testing import CliRunner
from covey_cli.main import cli


def test_help_names_the_commands() -> None:
    done = CliRunner().invoke(cli, ["--help"])
    assert done.exit_code == 0
    assert all(command in done.output for command in ("deploy", "init", "join", "decline", "simulate"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: Pod", "does not hold a FederatedTask"),
        ("{", "is not YAML"),
        (
            "kind: FederatedTask\nmetadata: {name: t}\nspec: {subnet: s, bounty: {amount: '1'}, data: {schema: w},"
            " rounds: {count: 1}, program: {image: i, entrypoint: nonsense}}",
            "program.entrypoint",
        ),
    ],
)
def test_a_bad_task_file_gets_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(text)
    done = CliRunner().invoke(cli, ["simulate", str(path)])
    assert done.exit_code == 1
    assert said in done.output
