import re

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from yottabench.load.gates import METRICS
from yottabench.load.profile import (
    ARRIVAL_KINDS,
    Arrivals,
    Detection,
    Profile,
    ProfileError,
    Stage,
    change,
    find_profile,
    list_profiles,
    loadtest_dir,
    parse_profile,
    read_profile,
)
from yottabench.load.tables import write_table


def parse(text: str) -> Profile:
    return parse_profile(text, name="mine", where="mine.toml")


def test_an_empty_profile_is_complete_and_named_after_its_file():
    assert parse("") == Profile("mine")


def test_values_reach_their_settings():
    profile = parse('about = "x"\n[arrivals]\nrate = 7\n[endpoint]\nimage = "sim/sleep"\nenv = { A = "1" }\n')
    assert (profile.arrivals.rate, profile.endpoint.image, profile.endpoint.env) == (7.0, "sim/sleep", {"A": "1"})
    assert isinstance(profile.arrivals.rate, float)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[arrivals]\nrat = 5", "mine.toml: arrivals: unknown key 'rat'; did you mean 'rate'?"),
        ("[arrivls]", "unknown key 'arrivls'; did you mean 'arrivals'?"),
        ("[arrivals]\nrate = 'fast'", "arrivals: rate must be a number, not 'fast'"),
        ("[arrivals]\nrate = true", "rate must be a number, not True"),
        ("[arrivals]\nrate = nan", "rate must be a finite number"),
        ("[arrivals]\nrate = inf", "rate must be a finite number"),
        (
            "[arrivals]\nkind = 'poison'",
            "must be one of constant, poisson, gamma, trace, not 'poison'; did you mean 'poisson'?",
        ),
        ("[endpoint]\nworkers = 2.5", "workers must be a whole number, not 2.5"),
        ("[endpoint]\nworkers = true", "workers must be a whole number, not True"),
        ("[endpoint]\nenv = { A = 1 }", "env.A must be a text, not 1. Put it in quotes."),
        ("endpoint = 3", "endpoint must be a table, not 3"),
        ("[arrivals]\nstages = 4", "stages must be a list, not 4"),
        ("[[arrivals.stages]]\nrate = 4", "stages[0]: duration_s is missing"),
        ("gates = ['e2e_p42_ms <= 5']", "names no known figure. Known: e2e_p50_ms"),
        ("gates = ['e2e_p95_ms = 5']", "only counts can be. Write <= or >="),
        ("gates = ['e2e_p95_ms is 5']", "is not a gate. Write METRIC <= NUMBER"),
        ("actions = [{ do = 'scale', at = 0.5 }]", "actions: scale, and only scale, has a number of workers"),
        ("actions = [{ do = 'kill-worker', at = 0.5, workers = 1 }]", "only scale, has a number of workers"),
        ("actions = [{ do = 'explode', at = 0.5 }]", "actions[0]: do must be one of scale, kill-worker"),
        ("actions = [{ do = 'kill-worker', at = 1.5 }]", "actions[0]: at must be at most 1"),
        ("gates = ['e2e_p95_ms <= 1.2.3']", "is not a gate"),
        ("[arrivals]\nkind = 'trace'", "no trace is named. Set trace = FILE or synthetic = NAME."),
        ("[arrivals]\ntrace = 'x.csv'", "arrivals.kind is 'poisson'"),
        ("[task]\ninput = {}", "task.input is empty"),
        ("[task]\ninput = { at = 2020-01-01 }", "task.input cannot be sent as JSON"),
        ("[task]\ninput = { x = nan }", "task.input cannot be sent as JSON"),
        ("[arrivals", "is not valid TOML"),
    ],
)
def test_a_wrong_profile_is_refused_with_place_rule_and_next_step(text: str, said: str):
    with pytest.raises(ProfileError) as caught:
        parse(text)
    assert said in str(caught.value)
    assert str(caught.value).startswith("mine.toml")


@pytest.mark.parametrize(
    ("cls", "name"),
    [(cls, field.name) for cls in (Arrivals, Detection) for field in attrs.fields(cls) if field.metadata.get("high")],
)
def test_both_sides_of_every_bound(cls: type, name: str):
    field = next(field for field in attrs.fields(cls) if field.name == name)
    low, high = field.metadata["low"], field.metadata["high"]
    whole = isinstance(field.default, int)
    step = 1 if whole else 1e-6
    for inside in (low, high):
        assert getattr(change(cls(), "test", **{name: inside}), name) == inside
    for outside in (low - step, high + step):
        with pytest.raises(ProfileError, match=name):
            change(cls(), "test", **{name: outside})


numbers = st.floats(0.001, 1000, allow_nan=False)
profiles = st.builds(
    Profile,
    name=st.text(st.characters(exclude_categories=("Cs",)), max_size=20),
    about=st.text(st.characters(exclude_categories=("Cs",)), max_size=40),
    gates=st.lists(st.sampled_from(["e2e_p95_ms <= 20", "error_rate < 0.1"])).map(tuple),
    arrivals=st.builds(
        Arrivals,
        kind=st.sampled_from(["constant", "poisson", "gamma"]),
        rate=numbers,
        duration_s=st.none() | st.floats(0.1, 1000),
        stages=st.lists(st.builds(Stage, numbers, numbers, st.none() | numbers), max_size=3).map(tuple),
    ),
)


@given(profiles)
def test_a_written_profile_reads_back_equal(profile: Profile):
    assert parse_profile(profile.to_toml(), name="other", where="test") == profile


def test_write_table_escapes_what_toml_does_not_take():
    profile = Profile('a"b\\c\n\x01é')
    assert parse_profile(write_table(profile), name="x", where="test").name == profile.name


def test_every_shipped_profile_can_be_read_and_says_what_it_is():
    found = list_profiles()
    wanted = (
        "smoke steady ramp steps spike soak burst-drain mixed polling webhook throttle scale-under-load worker-kill "
        "cold-start payload bad-input azure-conv azure-code"
    )
    assert {profile.name for profile in found} == set(wanted.split())
    for profile in found:
        assert profile.about
        assert profile.arrivals.kind in ARRIVAL_KINDS
        assert profile.parsed_gates()


def test_a_profile_is_found_by_name_or_path(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text("[arrivals]\nrate = 3\n")
    assert find_profile(str(path)).name == "own"
    assert find_profile("smoke") == read_profile(loadtest_dir() / "profiles" / "smoke.toml")


@pytest.mark.parametrize("name", ["smok", "../smoke", "no/such.toml"])
def test_an_unknown_profile_names_those_there_are(name: str):
    with pytest.raises(ProfileError, match=r"Shipped: azure-code, azure-conv, .*smoke, soak"):
        find_profile(name)


def test_an_unreadable_profile_is_an_error_of_its_own(tmp_path):
    path = tmp_path / "bad.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ProfileError, match="Cannot read the profile"):
        read_profile(path)


def test_the_readme_lists_every_shipped_profile_and_no_other():
    text = (loadtest_dir() / "README.md").read_text("utf-8")
    table = text.partition("| profile |")[2].partition("\n\n")[0]
    listed = re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE)
    assert sorted(listed) == [profile.name for profile in list_profiles()]


def test_the_profile_in_the_readme_is_one():
    text = (loadtest_dir() / "README.md").read_text("utf-8")
    (shown,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    profile = parse(shown)
    assert (profile.mix.get, profile.endpoint.workers, profile.actions[0].do) == (60, 6, "scale")


def test_every_gate_that_the_readme_names_there_is():
    text = (loadtest_dir() / "README.md").read_text("utf-8")
    gates = text.partition("## Gates")[2].partition("**Ending early.**")[0]
    named = {name for name in re.findall(r"`([a-z0-9_]+)`", gates) if "_" in name}
    assert {"error_rate", "bad_accepted", "first_end_s"} <= named <= set(METRICS)
