import gzip
from pathlib import Path

import pytest

from yottabench.load.bodies import BUILT_IN_PROMPTS, body_maker, read_prompts
from yottabench.load.prepare import describe, prepare, prompts_beside
from yottabench.load.profile import Arrivals, Profile, ProfileError, TaskSettings
from yottabench.load.schedule import Arrival
from yottabench.load.synthetic import synthetic_trace
from yottabench.load.trace import Size, Trace
from yottabench.load.trace_files import read_trace

SHARED = Path(__file__).parents[3] / "shared" / "traces"
AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0319600,3180,8\n"
)


def written(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_azure_traces_are_read_with_all_seven_digits(tmp_path: Path, name: str, ending: str):
    trace = read_trace(written(tmp_path / name, AZURE.replace("\n", ending)))
    assert list(trace.rows()) == [(0.0, Size(4808, 10)), (pytest.approx(0.052, abs=1e-6), Size(3180, 8))]


def test_plain_traces_are_read_and_put_in_order(tmp_path: Path):
    trace = read_trace(written(tmp_path / "t.csv", "t,size\n12.5,30\n10,20\n\n"))
    assert list(trace.rows()) == [(0.0, Size(20, 0)), (2.5, Size(30, 0))]


def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path: Path):
    assert len(read_trace(written(tmp_path / "t.csv", "\ufefft,size\n1,2\n"))) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1 must be the header"),
        ("a,b\n1,2\n", "line 1 must be the header 'timestamp,contexttokens,generatedtokens' or 't,size', not 'a,b'"),
        ("t,size\n", "has a header but no rows"),
        ("t,size\n1,2\nx,2\n", "line 3 cannot be read"),
        ("t,size\n1\n", "line 2 cannot be read"),
        ("t,size\nnan,2\n", "line 2: the time must be finite"),
        ("t,size\n1,-1\n", "line 2: the time must be finite and sizes must be 0 to 10000000"),
        ("t,size\n1,10000001\n", "sizes must be 0 to 10000000"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-13-01 00:00:00.0,1,1\n", "line 2 cannot be read"),
    ],
)
def test_a_broken_trace_names_the_line_and_the_rule(tmp_path: Path, text: str, said: str):
    with pytest.raises(ProfileError) as caught:
        read_trace(written(tmp_path / "t.csv", text))
    assert said in str(caught.value)


@pytest.mark.parametrize("content", [b"\x00\xff\xfe", b"\x1f\x8bnot really gzip"])
def test_what_is_no_text_is_no_trace(tmp_path: Path, content: bytes):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(content)
    with pytest.raises(ProfileError, match="Cannot read the trace"):
        read_trace(path)
    with pytest.raises(ProfileError, match="Cannot read the trace"):
        read_trace(tmp_path / "missing.csv")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public traces are not beside the checkout")
def test_the_real_azure_traces_are_read_whole():
    code = read_trace(SHARED / "AzureLLMInferenceTrace_code.csv.gz")
    assert (len(code), round(code.duration_s)) == (8819, 3436)
    assert "mean 2.6/s, busiest second 67, gap CV 13.2" in code.summary()
    assert len(read_trace(SHARED / "AzureLLMInferenceTrace_conv.csv.gz")) == 19_366


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public prompts are not beside the checkout")
def test_the_real_prompts_are_read_whole():
    prompts = read_prompts(SHARED / "mt_bench_question.jsonl")
    assert len(prompts) == 80
    assert prompts[0].startswith("Compose an engaging travel blog post")


def test_prompts_come_from_turns_or_prompt(tmp_path: Path):
    path = written(tmp_path / "p.jsonl.gz", '{"turns": ["one", "two"]}\n\n{"prompt": "three"}\n')
    assert read_prompts(path) == ("one", "three")


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"turns": []}', '{"prompt": 5}', '{"prompt": ""}'])
def test_broken_prompts_name_the_line(tmp_path: Path, line: str):
    with pytest.raises(ProfileError, match="line 2"):
        read_prompts(written(tmp_path / "p.jsonl", '{"prompt": "x"}\n' + line + "\n"))
    with pytest.raises(ProfileError, match="holds no prompts"):
        read_prompts(written(tmp_path / "q.jsonl", "\n"))


@pytest.mark.parametrize("tokens", [1, 13, 2048, 7437, 40_000])
def test_a_chat_body_has_the_length_of_its_row_and_asks_for_its_answer(tokens: int):
    make = body_maker(TaskSettings(body="chat", model="m"), ("first?", "second!"))
    body = make(Arrival(0, 0.0, 5, Size(tokens, 33)))
    assert len(body["messages"][0]["content"]) == 4 * tokens
    assert (body["max_tokens"], body["model"], body["messages"][0]["role"]) == (33, "m", "user")


def test_a_chat_body_begins_with_the_prompt_that_was_drawn():
    make = body_maker(TaskSettings(body="chat"), ("first?", "second!"))
    assert make(Arrival(0, 0.0, 7, Size(100, 1)))["messages"][0]["content"].startswith("second!\n\nfirst?")
    assert make(Arrival(0, 0.0, 2, Size(0, 0)))["messages"][0]["content"] == "f"
    assert make(Arrival(0, 0.0, 2, Size(0, 0)))["max_tokens"] == 1
    assert make(Arrival(0, 0.0, 2))["max_tokens"] == 50


def test_equal_arrivals_have_equal_bodies_and_a_fixed_body_is_fixed():
    make = body_maker(TaskSettings(body="chat"))
    assert make(Arrival(1, 0.0, 9)) == make(Arrival(2, 1.0, 9))
    assert body_maker(TaskSettings(input={"a": 1}))(Arrival(3, 0.0, 9)) == {"a": 1}


def test_a_profile_is_prepared_with_its_trace_and_prompts(tmp_path: Path):
    trace = written(tmp_path / "t.csv", AZURE)
    assert prompts_beside(trace) is None
    prompts = written(tmp_path / "mt_bench_question.jsonl", '{"turns": ["Well?"]}\n')
    assert prompts_beside(trace) == prompts
    profile = Profile(
        "p",
        arrivals=Arrivals(kind="trace", trace=str(trace), time_scale=2),
        task=TaskSettings(body="chat", prompts=str(prompts)),
    )
    prepared = prepare(profile, 1)
    assert [round(arrival.due_s, 6) for arrival in prepared.schedule] == [0, 0.026]
    assert prepared.prompts_name == "mt_bench_question.jsonl"
    assert describe(profile, prepared).startswith("replay of t.csv: 2 tasks")
    assert describe(profile, prepared).endswith("2 times as fast")


def test_how_tasks_come_is_said_in_words():
    def said(**settings: object) -> str:
        profile = Profile("p", arrivals=Arrivals(**settings))
        return describe(profile, prepare(profile, 1))

    assert said(rate=5) == "Poisson, 5 tasks/s"
    assert said(kind="gamma", rate=5, gap_cv=3) == "Gamma, gap CV 3, 5 tasks/s"
    assert said(kind="trace", synthetic="azure-code").startswith("synthetic, fitted to azure-code:")


def test_the_built_in_prompts_are_enough_for_a_run():
    assert len(set(BUILT_IN_PROMPTS)) >= 8
    assert isinstance(synthetic_trace("azure-code", 1), Trace)
