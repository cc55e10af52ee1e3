import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.load.runs import PREFIX, Sent, write_journal
from yottabench.load.journal import (
    ACCEPTED,
    REFUSED,
    SENT,
    THROTTLED,
    UNKNOWN,
    JournalError,
    JournalWriter,
    read_journal,
    seq_of,
    task_id,
)

TASKS = [
    Sent(0, 0.0),
    Sent(2, 0.1, outcome="refused"),
    Sent(4, 0.2, outcome="throttled"),
    Sent(6, 0.3, outcome="unknown", end_s=None),
    Sent(8, 0.4, outcome="silent"),
    Sent(10, 0.5, status="FAILED"),
]


def test_what_was_written_is_read_back(tmp_path: Path):
    write_journal(tmp_path / "j", TASKS, process=0, of=2)
    journal = read_journal(tmp_path / "j")
    assert list(journal.seq) == [0, 2, 4, 6, 8, 10]
    assert list(journal.outcome) == [ACCEPTED, REFUSED, THROTTLED, UNKNOWN, SENT, ACCEPTED]
    assert [journal.ended(row) for row in range(6)] == [True, False, False, False, False, True]
    assert journal.statuses[journal.status[5]] == "FAILED"
    assert list(journal.due_s) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert journal.detected_s[5] == pytest.approx(0.51)
    assert journal.reasons == {"HTTP 400, code 10001": 1, "HTTP 429, code 429": 1, "ReadTimeout": 1}
    assert (journal.row(4), journal.row(5), journal.row(99)) == (2, None, None)
    assert journal.task_id(2) == f"{PREFIX}_4"
    assert journal.closing is not None
    assert journal.broken_lines == 0


def test_each_task_is_in_the_file_before_its_outcome_is_known(tmp_path: Path):
    writer = JournalWriter(tmp_path / "j", {"prefix": PREFIX, "process": 0, "of": 1, "start_epoch_s": 1.0})
    writer.intent(0, f"{PREFIX}_0", 0.0, 0.001)
    journal = read_journal(tmp_path / "j")
    assert (len(journal), journal.outcome[0], journal.closing) == (1, SENT, None)
    writer.close()
    writer.close()


def test_a_journal_is_never_written_over(tmp_path: Path):
    write_journal(tmp_path / "j", TASKS)
    with pytest.raises(FileExistsError):
        write_journal(tmp_path / "j", TASKS)


@given(st.data())
def test_a_journal_cut_off_anywhere_is_read_up_to_the_cut(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
):
    path = tmp_path_factory.mktemp("cut") / "j"
    write_journal(path, TASKS)
    whole = path.read_bytes()
    cut = data.draw(st.integers(whole.index(b"\n") + 1, len(whole)))
    path.write_bytes(whole[:cut])
    journal = read_journal(path)
    written = [json.loads(line) for line in whole[:cut].split(b"\n")[:-1]]
    assert len(journal) == sum("id" in line for line in written)
    assert journal.broken_lines == (0 if whole[:cut].endswith(b"\n") else 1)
    assert (journal.closing is not None) == (cut == len(whole))


@given(st.data())
def test_damaged_lines_are_counted_and_never_fatal(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    path = tmp_path_factory.mktemp("damaged") / "j"
    write_journal(path, TASKS)
    lines = path.read_bytes().splitlines(keepends=True)
    position = data.draw(st.integers(1, len(lines)))
    junk = data.draw(
        st.sampled_from(
            [b"\n", b"{}\n", b"[1]\n", b"null\n", b'{"n":0}\n', b'{"n":77,"ok":1}\n', b'{"n":"x","ok":1}\n', b"\xff\n"]
        )
        | st.binary(max_size=20).filter(lambda raw: b"\n" not in raw).map(lambda raw: raw + b"\n")
    )
    path.write_bytes(b"".join([*lines[:position], junk, *lines[position:]]))
    journal = read_journal(path)
    assert journal.broken_lines == 1
    assert list(journal.seq) == [task.seq for task in TASKS]


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"{}\n", b'{"journal":99}\n', b'{"journal":1}\n', b'{"journal":1,"prefix":"r"']
)
def test_a_file_without_its_first_line_is_no_journal(tmp_path: Path, content: bytes):
    (tmp_path / "j").write_bytes(content)
    with pytest.raises(JournalError, match="does not begin with a journal line"):
        read_journal(tmp_path / "j")


def test_a_killed_process_loses_no_line(tmp_path: Path):
    program = (
        "import os, pathlib, sys; from yottabench.load.journal import JournalWriter;"
        "w = JournalWriter(pathlib.Path(sys.argv[1]), {'prefix': 'r1', 'process': 0, 'of': 1, 'start_epoch_s': 0.0});"
        "[w.intent(n, f'r1_{n}', n / 10, n / 10) for n in range(100)]; os.kill(os.getpid(), 9)"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path / "j")], check=False)
    assert ended.returncode == -9
    assert len(read_journal(tmp_path / "j")) == 100


def test_a_full_disk_is_an_error(tmp_path: Path):
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    writer = JournalWriter(tmp_path / "j", {"prefix": PREFIX, "process": 0, "of": 1, "start_epoch_s": 1.0})
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, writer._file)
    with pytest.raises(OSError, match="No space left"):
        writer.intent(0, f"{PREFIX}_0", 0.0, 0.0)
    os.close(full)


@given(st.from_regex(r"[A-Za-z0-9_]{1,40}", fullmatch=True), st.integers(0, 2**62))
def test_a_number_is_found_again_in_its_task_id(prefix: str, seq: int):
    identifier = task_id(prefix, seq)
    assert seq_of(prefix, identifier) == seq
    assert identifier != "count"


@pytest.mark.parametrize(
    "other", ["", "count", "r1", "r1_", "r1_x", "r1_01", "r1_-1", "r1_1_2", "r2_1", "xr1_1", "r1_١", "r1_ 1"]
)
def test_other_ids_have_no_number(other: str):
    assert seq_of("r1", other) is None
