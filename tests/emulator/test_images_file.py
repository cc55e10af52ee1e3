from pathlib import Path

import pytest

from yottabench.emulator.drivers.images_file import (
    CommandImage,
    ExternalImage,
    ImagesFileError,
    read_images_file,
    without_tag,
)


def read(tmp_path: Path, text: str) -> tuple[CommandImage | ExternalImage, ...]:
    path = tmp_path / "images.toml"
    path.write_text(text, encoding="utf-8")
    return read_images_file(path).entries


def one(tmp_path: Path, more: str) -> CommandImage | ExternalImage:
    (entry,) = read(tmp_path, f'[[image]]\npattern = "a"\n{more}\n')
    return entry


def refused(tmp_path: Path, text: str) -> str:
    with pytest.raises(ImagesFileError) as error:
        read(tmp_path, text)
    return str(error.value)


def test_a_command_has_defaults_for_all_but_its_arguments(tmp_path: Path) -> None:
    entry = one(tmp_path, 'command = ["run"]')
    assert isinstance(entry, CommandImage)
    assert entry.command == ("run",)
    assert entry.environment == {}
    assert entry.inherit == ()
    assert entry.port is None
    assert entry.working_directory == tmp_path.resolve()
    assert entry.initialization_shell == "/bin/sh"
    assert entry.ready.check == "auto"
    assert entry.ready.timeout_s == 600


def test_everything_of_a_command_can_be_said(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    entry = one(
        tmp_path,
        'command = ["serve", "--port", "{port}"]\nenvironment = { A = "b" }\ninherit = ["CUDA_*"]\nport = 65535\n'
        'working_directory = "models"\ninitialization_shell = ""\nready = { log = "up .*", timeout_s = 2.5, port = 1 }',
    )
    assert isinstance(entry, CommandImage)
    assert entry.environment == {"A": "b"}
    assert entry.inherit == ("CUDA_*",)
    assert entry.working_directory == tmp_path.resolve() / "models"
    assert entry.port == 65535
    assert entry.initialization_shell == ""
    assert entry.ready.line is not None
    assert entry.ready.line.pattern == "up .*"
    assert (entry.ready.check, entry.ready.timeout_s, entry.ready.port) == ("log", 2.5, 1)


def test_secrets_of_the_environment_are_not_shown(tmp_path: Path) -> None:
    assert "hunter2" not in repr(one(tmp_path, 'command = ["a"]\nenvironment = { PASSWORD = "hunter2" }'))


@pytest.mark.parametrize(
    ("url", "host", "port", "tls"),
    [
        ("http://10.0.0.5:8000", "10.0.0.5", 8000, False),
        ("http://gpu-box", "gpu-box", 80, False),
        ("https://models.test/", "models.test", 443, True),
        ("https://models.test:1", "models.test", 1, True),
        ("http://[::1]:65535", "::1", 65535, False),
        ("http://gpu-box:{port}", "gpu-box", None, False),
    ],
)
def test_servers_elsewhere_are_addresses(tmp_path: Path, url: str, host: str, port: int | None, tls: bool) -> None:
    entry = one(tmp_path, f'urls = ["{url}"]')
    assert isinstance(entry, ExternalImage)
    (found,) = entry.urls
    assert (found.host, found.port, found.tls) == (host, port, tls)


@pytest.mark.parametrize(
    ("ready", "check"),
    [("tcp = true", "tcp"), ('http = "/health"', "http"), ("none = true", "none"), ("", "auto")],
)
def test_readiness_is_one_of_a_few_checks(tmp_path: Path, ready: str, check: str) -> None:
    assert one(tmp_path, f'command = ["a"]\nready = {{ {ready} }}').ready.check == check


@pytest.mark.parametrize(
    ("image", "found"),
    [
        ("vllm/vllm-openai:v1", 0),
        ("vllm/vllm-openai", 0),
        ("vllm/vllm-openai@sha256:ab", 0),
        ("vllm/vllm-openai:v1@sha256:ab", 0),
        ("vllm/other:v1", None),
        ("ghcr.io/me/tool:2", 1),
        ("ghcr.io/me/tool:3", None),
        ("host:5000/tool:9", 2),
        ("Vllm/vllm-openai", None),
        ("any/exact:1.2", 3),
        ("any/exact:1.3", 4),
    ],
)
def test_the_first_pattern_that_fits_wins(tmp_path: Path, image: str, found: int | None) -> None:
    patterns = ["vllm/vllm-openai", "ghcr.io/*/tool:2", "host:5000/tool", "any/exact:1.2", "any/*"]
    path = tmp_path / "images.toml"
    path.write_text("".join(f'[[image]]\npattern = "{pattern}"\ncommand = ["a"]\n' for pattern in patterns))
    images = read_images_file(path)
    assert images.find(image) is (None if found is None else images.entries[found])


@pytest.mark.parametrize(
    ("image", "bare"),
    [("a", "a"), ("a:1", "a"), ("h:5000/a", "h:5000/a"), ("h:5000/a:1", "h:5000/a"), ("h/a@sha256:0", "h/a")],
)
def test_a_registrys_port_is_no_tag(image: str, bare: str) -> None:
    assert without_tag(image) == bare


def test_an_error_says_line_entry_and_image(tmp_path: Path) -> None:
    text = '# two\n[[image]]\npattern = "a"\ncommand = ["a"]\n\n[[image]]\npattern = "b/*"\ncommand = "python x.py"\n'
    assert refused(tmp_path, text) == (
        f'{tmp_path}/images.toml, line 6, [[image]] no. 2 ("b/*"): command must be a list of texts.'
        ' Write command = ["...", "..."].'
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[image]]\npattern = a", "is no TOML: .*line 2.*Correct it"),
        ('[[images]]\npattern = "a"', r"images is not known here\. Did you mean image"),
        ('[image]\npattern = "a"', r"image must be a list of tables\. Begin each with a line \[\[image\]\]"),
        ('image = [{ pattern = "a" }]', r'\[\[image\]\] no\. 1 \("a"\): has neither command nor urls'),
        ('[[image]]\ncommand = ["a"]', r"pattern is missing\. Write pattern"),
        ('[[image]]\npattern = ""\ncommand = ["a"]', "pattern must be a text"),
        ('[[image]]\npattern = "a"\ncommand = ["a"]\nurls = []', "has both command and urls"),
        ('[[image]]\npattern = "a"\ncommand = []', "command names no program"),
        ('[[image]]\npattern = "a"\ncommand = ["a", 1]', "command must be a list of texts"),
        ('[[image]]\npattern = "a"\ncommand = ["a"]\nport = 0', "port must be a whole number from 1 to 65535"),
        ('[[image]]\npattern = "a"\ncommand = ["a"]\nport = 65536', "port must be a whole number from 1 to 65535"),
        ('[[image]]\npattern = "a"\ncommand = ["a"]\nport = true', "port must be a whole number"),
        ('[[image]]\npattern = "a"\ncommand = ["a"]\nenvironment = { A = 1 }', "environment must be a table of texts"),
        ('[[image]]\npattern = "a"\ncommand = ["a"]\nworking_directory = "no"', "working_directory is no folder: .*no"),
        (
            '[[image]]\npattern = "a"\ncommand = ["a"]\nenvironments = {}',
            r"environments is not known",
        ),
        ('[[image]]\npattern = "a"\ncommand = ["a"]\nready = "tcp"', "ready must be a table"),
        ('[[image]]\npattern = "a"\ncommand = ["a"]\nready = { tcp = false }', "tcp must be true"),
        ('[[image]]\npattern = "a"\ncommand = ["a"]\nready = { http = "health" }', "http must be a path, not 'health'"),
        ('[[image]]\npattern = "a"\ncommand = ["a"]\nready = { log = "(" }', "log is no regular expression"),
        ('[[image]]\npattern = "a"\ncommand = ["a"]\nready = { tcp = true, none = true }', "none comes besides tcp"),
        (
            '[[image]]\npattern = "a"\ncommand = ["a"]\nready = { timeout_s = 0 }',
            "timeout_s must be a number of seconds",
        ),
        ('[[image]]\npattern = "a"\ncommand = ["a"]\nready = { timeout_s = 86401 }', "timeout_s must be a number"),
        ('[[image]]\npattern = "a"\ncommand = ["a"]\nready = { timeot_s = 1 }', "timeot_s is not known.*timeout_s"),
        ('[[image]]\npattern = "a"\nurls = []', "urls is empty"),
        ('[[image]]\npattern = "a"\nurls = ["10.0.0.5:80"]', "'10.0.0.5:80', which is no server's address"),
        ('[[image]]\npattern = "a"\nurls = ["http://a/v1"]', "which is no server's address"),
        ('[[image]]\npattern = "a"\nurls = ["http://me:secret@a"]', r"holds 'http://\*\*\*@a', which is no server's"),
        ('[[image]]\npattern = "a"\nurls = ["http://a:0"]', "whose port does not exist"),
        ('[[image]]\npattern = "a"\nurls = ["http://a:65536"]', "whose port does not exist"),
        (
            '[[image]]\npattern = "a"\nurls = ["http://a"]\nworkers_per_url = 0',
            "workers_per_url must be a whole number",
        ),
        ('[[image]]\npattern = "a"\nurls = ["http://a"]\nready = { log = "x" }', "log cannot be looked at"),
        ('[[image]]\npattern = "a"\nurls = ["http://a"]\nenvironment = {}', "environment is not known here"),
    ],
)
def test_what_is_wrong_is_said_with_what_to_do(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ImagesFileError, match=words) as error:
        read(tmp_path, text)
    assert str(error.value).startswith(str(tmp_path / "images.toml"))
    assert str(error.value).endswith(".")


def test_a_file_that_is_not_there_or_not_text_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(ImagesFileError, match=r"none\.toml cannot be read: No such file.*--images"):
        read_images_file(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ImagesFileError, match="is no TOML"):
        read_images_file(tmp_path / "binary.toml")
