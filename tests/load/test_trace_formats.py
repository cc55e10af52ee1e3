import gzip
import itertools
import json
import statistics
import tarfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yottabench.load.prepare import prepare
from yottabench.load.profile import Arrivals, Profile, ProfileError
from yottabench.load.servegen import read_servegen
from yottabench.load.trace import Size, from_rows, spread, tick_of
from yottabench.load.trace_files import read_trace

SHARED = Path(__file__).parents[3] / "shared" / "traces"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the public traces are not beside the checkout")
MOONCAKE = "".join(
    json.dumps({"timestamp": at_ms, "input_length": n, "output_length": 5, "hash_ids": [0]}) + "\n"
    for n, at_ms in enumerate([0, 0, 0, 3000, 3000, 5999, 5999, 12000, 12000])
)


def written(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["m.jsonl", "m.jsonl.gz"])
def test_mooncake_traces_are_read_and_spread_within_their_tick(tmp_path: Path, name: str):
    path = written(tmp_path / name, MOONCAKE)
    exact = read_trace(path, tick_s=0)
    assert list(exact.rows())[3] == (3.0, Size(3, 5))
    moved = read_trace(path, seed=4)
    assert moved.notes == ("times drawn within their tick of 3 s",)
    assert "times drawn within their tick of 3 s" in moved.summary()
    assert list(moved.prompt_tokens) == list(exact.prompt_tokens)
    assert all(0 <= now - was < 3 for now, was in zip(moved.at_s, exact.at_s, strict=True))
    assert moved == read_trace(path, seed=4)
    assert moved.at_s != read_trace(path, seed=5).at_s


def test_plain_json_lines_are_read(tmp_path: Path):
    path = written(tmp_path / "t.jsonl", '{"t": 3.5, "size": 7}\n\n{"t": 1, "size": 2, "output": 9}\n')
    assert list(read_trace(path).rows()) == [(0.0, Size(2, 9)), (2.5, Size(7, 0))]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2 cannot be read"),
        ("[1]", "a line must be an object"),
        ('{"at": 1}', "its keys must be timestamp, input_length or t, size"),
        ('{"t": 1}', "it has no 'size'"),
        ('{"t": 1, "size": 1.5}', "a size must be a whole number, not 1.5"),
        ('{"t": 1, "size": true}', "a size must be a whole number"),
        ('{"t": "x", "size": 1}', "could not convert"),
        ('{"t": 1e999, "size": 1}', "line 2"),
        ('{"t": 1, "size": -1}', "sizes must be 0 to 10000000"),
    ],
)
def test_a_broken_json_line_is_named_with_its_rule(tmp_path: Path, line: str, said: str):
    with pytest.raises(ProfileError) as caught:
        read_trace(written(tmp_path / "t.jsonl", '{"t": 0, "size": 1}\n' + line + "\n"))
    assert said in str(caught.value)
    assert "line 2" in str(caught.value)


def test_exact_times_stay_as_they_are():
    rows = [(n * 0.37 + n % 3 * 0.011, 1, 1) for n in range(50)]
    assert tick_of(from_rows("t", list(rows))) == 0
    assert tick_of(from_rows("t", [(0.0, 1, 1)] * 9)) == 0
    assert tick_of(from_rows("t", [(n // 10 * 0.001, 1, 1) for n in range(50)])) == 0  # finer than matters


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=60),
    st.sampled_from([0.1, 1.0, 3.0]),
    st.integers(0, 2**32),
)
def test_spreading_keeps_every_row_within_its_tick_and_all_in_order(ticks: list[int], tick_s: float, seed: int):
    trace = from_rows("t", [(tick * tick_s, n, 0) for n, tick in enumerate(ticks)])
    moved = spread(trace, tick_s, seed)
    assert all(a <= b for a, b in itertools.pairwise(moved.at_s))
    assert all(-1e-9 <= now - was <= tick_s for now, was in zip(moved.at_s, trace.at_s, strict=True))
    assert Counter(int(at / tick_s + 1e-9) for at in moved.at_s) == Counter(round(at / tick_s) for at in trace.at_s)


WINDOWS = "0,5.0,2.0,Gamma,0.25,0.8\n600,0,0,,0,0\n1200,10.0,0.7,Weibull,1.5,0.1\n"
LENGTHS = json.dumps(
    {
        "0": {"input_tokens": "{10: 0.5, 20: 0.5}", "output_tokens": "{3: 1.0}"},
        "1200": {"input_tokens": "{77: 1.0}", "output_tokens": "{8: 1.0}"},
    }
)


def test_servegen_windows_are_drawn_at_their_rates_with_their_lengths(tmp_path: Path):
    written(tmp_path / "chunk-0-trace.csv", WINDOWS)
    written(tmp_path / "chunk-0-dataset.json", LENGTHS)
    trace = read_trace(tmp_path, 3)
    parts = [[size for at, size in trace.rows() if low <= at < low + 600] for low in (0, 600, 1200)]
    # The Gamma window has bursts: 3,000 expected, and a standard deviation of about 2 x sqrt(3,000).
    assert len(parts[0]) == pytest.approx(3000, abs=550)
    assert len(parts[2]) == pytest.approx(6000, abs=300)
    assert len(parts[1]) <= 1  # the last burst's rows are counted from the first row on
    assert {size.prompt_tokens for size in parts[0]} == {10, 20}
    assert set(parts[2]) == {Size(77, 8)}
    assert trace.summary().startswith(f"1 clients drawn by the windows of {tmp_path.name}")
    assert trace.at_s == read_trace(tmp_path, 3).at_s
    assert trace.at_s != read_trace(tmp_path, 4).at_s


def test_servegen_gaps_are_as_bursty_as_their_windows_say(tmp_path: Path):
    found: list[float] = []
    for shape, kind in ((0.25, "Gamma"), (1.5, "Weibull"), (0.0, "")):
        path = written(tmp_path / f"x{kind}-trace.csv", f"0,10,1,{kind},{shape},1\n3600,0,0,,0,0\n")
        gaps = [b - a for a, b in itertools.pairwise(read_trace(path, 1).at_s)]
        found.append(statistics.pstdev(gaps) / statistics.fmean(gaps))
    assert found == [pytest.approx(2, rel=0.1), pytest.approx(0.68, rel=0.1), pytest.approx(1, rel=0.1)]


def test_a_servegen_file_alone_has_default_lengths_and_stops_where_it_is_told(tmp_path: Path):
    path = written(tmp_path / "c-trace.csv", WINDOWS)
    trace = read_trace(path, 1, until_s=100)
    assert trace.duration_s <= 100
    assert set(trace.prompt_tokens) == {200}
    profile = Profile("p", arrivals=Arrivals(kind="trace", trace=str(path), time_scale=10, duration_s=5))
    assert prepare(profile, 1).schedule.duration_s <= 5


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "holds no file that ends in -trace.csv"),
        ({"a-trace.csv": ""}, "a-trace.csv has no windows"),
        ({"a-trace.csv": "0,1\n"}, "a-trace.csv: line 1 cannot be read"),
        ({"a-trace.csv": "0,-1,1,Gamma,1,1\n"}, "line 1 cannot be read: a rate must not be negative"),
        ({"a-trace.csv": "0,1,1,Gamma,0,1\n"}, "a shape must be positive"),
        ({"a-trace.csv": "0,0,0,,0,0\n"}, "no client sends anything"),
        ({"a-trace.csv": WINDOWS, "a-dataset.json": "{"}, "a-dataset.json cannot be read"),
        ({"a-trace.csv": WINDOWS, "a-dataset.json": '{"0": {}}'}, "a-dataset.json cannot be read"),
        ({"a-trace.csv": "0,100000,1,,0,1\n600,0,0,,0,0\n"}, "gives more than 1000 tasks. Set a shorter --duration"),
    ],
)
def test_a_broken_servegen_folder_names_file_and_rule(tmp_path: Path, files: dict[str, str], said: str):
    for name, text in files.items():
        written(tmp_path / name, text)
    with pytest.raises(ProfileError) as caught:
        read_servegen(tmp_path, 1, max_rows=1000)
    assert said in str(caught.value)


def test_a_servegen_archive_is_read_as_its_folder_and_two_workloads_are_not_mixed(tmp_path: Path):
    folder = tmp_path / "work"
    folder.mkdir()
    written(folder / "a-trace.csv", WINDOWS)
    written(folder / "a-dataset.json", LENGTHS)
    with tarfile.open(tmp_path / "one.tar.xz", "w:xz") as archive:
        archive.add(folder, "work")
    packed = read_trace(tmp_path / "one.tar.xz", 1)
    assert len(packed) > 7000
    assert set(packed.output_tokens) == {3, 8}
    with tarfile.open(tmp_path / "two.tar.xz", "w:xz") as archive:
        archive.add(folder, "work")
        archive.add(folder, "other")
    with pytest.raises(ProfileError, match=r"several workloads \(other, work\)"):
        read_trace(tmp_path / "two.tar.xz", 1)


@needs_shared
def test_the_real_mooncake_traces_are_read_whole():
    trace = read_trace(SHARED / "mooncake_conversation_trace.jsonl.gz")
    assert len(trace) == 12_031
    assert trace.notes == ("times drawn within their tick of 3 s",)
    _, busiest, cv = trace.figures()
    assert busiest < 28  # what shared one tick does not fall into one second any more
    assert cv == pytest.approx(1.0, abs=0.1)
    assert read_trace(SHARED / "mooncake_synthetic_trace.jsonl.gz").notes == ()


@needs_shared
def test_a_real_servegen_workload_is_drawn_at_its_rate(tmp_path: Path):
    with tarfile.open(SHARED / "servegen_traces.tar.xz") as archive:
        members = [member for member in archive if "mm-image" in member.name]
        archive.extractall(tmp_path, members, filter="data")
    folder = tmp_path / "multimodal" / "mm-image"
    trace = read_trace(folder, 1, until_s=3600)
    rows = [line.split(",") for file in folder.glob("*-trace.csv") for line in file.read_text().splitlines()]
    expected = 600 * sum(float(cells[1]) for cells in rows if float(cells[0]) < 3600)
    assert len(trace) == pytest.approx(expected, rel=0.15)
