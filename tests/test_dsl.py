"""Rule texts: what is accepted means one thing, what is not is told with its place."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from markets.fills import FREE
from markets.listing import EventTerms, MarketTerms
from rules.dsl import (
    DETECTORS,
    Dedupe,
    DutchBookParams,
    DutchBookRule,
    Exclude,
    ObservedRule,
    Outputs,
    RuleError,
    Scope,
    Scoring,
    Weights,
    load_dir,
    parse_rule,
    read_dir,
    read_rule,
)
from rules.kernel.finding import Certificate, Finding, Limits
from rules.kernel.observed import observed
from rules.rule_kinds import (
    EndgameRuleParams,
    ImbalanceRuleParams,
    SpikeRuleParams,
    TrendRuleParams,
)
from rules.strict_yaml import MAX_BYTES, read_yaml
from tests.worlds import market_terms

SHIPPED = Path(__file__).parent.parent / "rules" / "defs"
MINIMAL = "code: DUTCH_BOOK_DETECT\ntitle: Dutch book\ndetector: dutch_book\n"


def refusal(text: str) -> list[str]:
    with pytest.raises(RuleError) as refused:
        parse_rule(text, source="rule.yaml")
    return str(refused.value).splitlines()


def minimal_and(line: str) -> str:
    return f"{MINIMAL}{line}\n"


def rule(text: str = MINIMAL) -> DutchBookRule:
    parsed = parse_rule(text, source="rule.yaml")
    assert isinstance(parsed, DutchBookRule)
    return parsed


# --- what is accepted


def test_shipped_rule_says_what_the_design_says():
    shipped = read_rule(SHIPPED / "dutch_book_detect.yaml").definition

    assert isinstance(shipped, DutchBookRule)
    assert shipped.code == "DUTCH_BOOK_DETECT"
    assert set(shipped.params.kinds) == {"binary", "yes_basket", "no_basket"}
    assert shipped.params.limits() == Limits(None, Decimal("0.50"), Decimal(20))
    assert shipped.outputs.level("EXECUTABLE") == "P1"
    assert shipped.outputs.level("THIN") == "P2"
    assert shipped.outputs.level("BLOCKED") == "P3"
    assert shipped.enabled


def test_every_shipped_rule_is_read_and_only_the_optional_ones_are_off():
    shipped = {rule.code: rule.enabled for rule in load_dir(SHIPPED)}

    assert shipped == {
        "DUTCH_BOOK_DETECT": True,
        "CROSS_MARKET_MISPRICE": True,
        "SPIKE_DETECT": True,
        "ENDGAME_SWEEP": True,
        "ORDER_BOOK_IMBALANCE": False,
        "TREND_BREAKOUT": False,
        "TEMPORAL_ARB": False,
    }
    assert {rule.detector for rule in load_dir(SHIPPED)} == set(DETECTORS)


@pytest.mark.parametrize("shipped", load_dir(SHIPPED), ids=lambda rule: rule.code)
def test_a_shipped_rule_writes_out_the_defaults(shipped):
    bare = type(shipped)(code=shipped.code, title=shipped.title, detector=shipped.detector)

    assert shipped.params == bare.params
    assert parse_rule(shipped.canonical(), source="canonical") == shipped


def test_a_release_keeps_the_fingerprint_of_the_rules_that_desks_have():
    """Versions are found again by it: a new field needs a class that older rules do not have."""
    shipped = read_rule(SHIPPED / "dutch_book_detect.yaml").definition

    assert shipped.sha256 == "3bb35775999c22528e59d9e4e7a709b2d91514bc2ab2c99acd8945c318b5a885"


@pytest.mark.parametrize(
    "params", [SpikeRuleParams(), EndgameRuleParams(), ImbalanceRuleParams(), TrendRuleParams()]
)
def test_the_kernel_and_the_rules_have_the_same_defaults(params):
    assert params.kernel() == type(params.kernel())()


def test_prices_and_counts_reach_the_kernel_in_its_units():
    text = (
        "code: SPIKE_DETECT\ntitle: x\ndetector: spike\n"
        "params: {max_spread: 0.0351, threshold: 30.5, persist_updates: 3, min_liquidity: 200}\n"
    )

    kernel = parse_rule(text, source="x").params.kernel()

    assert (kernel.max_spread, kernel.threshold) == (351, 30.5)
    assert (kernel.persist_updates, kernel.min_liquidity) == (3, 200)


def test_defaults_are_those_of_the_scan_command():
    assert rule().params.limits() == Limits()


def test_money_is_read_from_the_text_not_through_a_float():
    text = minimal_and("params: {min_profit_usd: 0.100001, capital_usd: 123456789.123456}")

    params = rule(text).params

    assert params.min_profit_usd == Decimal("0.100001")
    assert params.capital_usd == Decimal("123456789.123456")


def test_comments_order_and_spelling_do_not_change_the_fingerprint():
    one = minimal_and("params:\n  min_profit_usd: 0.50\n  kinds: [binary, no_basket]")
    other = (
        "# a comment\ndetector: 'dutch_book'\nparams: {kinds: [no_basket, binary], "
        "min_profit_usd: 0.5}\ntitle: >\n  Dutch book\ncode: DUTCH_BOOK_DETECT"
    )

    assert rule(one).sha256 == rule(other).sha256


def test_a_changed_number_changes_the_fingerprint():
    one = rule(minimal_and("params: {min_profit_usd: 0.50}"))
    other = rule(minimal_and("params: {min_profit_usd: 0.51}"))

    assert one.sha256 != other.sha256


def test_a_rule_cannot_be_changed():
    frozen = rule()

    with pytest.raises(ValidationError):
        frozen.enabled = False  # type: ignore[misc]


# --- what is refused, where, and what to write instead

WRONG_VALUES = {
    "exponent": (
        "params: {min_edge_bps: 1e-3}",
        "4:24: params.min_edge_bps: 1e-3 is not how numbers are written here; write 0.001",
    ),
    "not a number": (
        "params: {min_edge_bps: .nan}",
        "4:24: params.min_edge_bps: .nan is not a finite number; write a number such as",
    ),
    "infinite": ("params: {capital_usd: -.INF}", "4:23: params.capital_usd: -.INF is not a finite"),
    "sexagesimal": (
        "dedupe: {cooldown_secs: 12:30:45}",
        "4:25: dedupe.cooldown_secs: 12:30:45 is not how numbers are written here; write 45045",
    ),
    "octal": (
        "dedupe: {cooldown_secs: 010}",
        "4:25: dedupe.cooldown_secs: 010 is not how numbers are written here; write 10",
    ),
    "hexadecimal": (
        "dedupe: {cooldown_secs: 0x1F}",
        "4:25: dedupe.cooldown_secs: 0x1F is not how numbers are written here; write 31",
    ),
    "huge exponent": (
        "params: {min_edge_bps: 1e999999999}",
        "4:24: params.min_edge_bps: 1e999999999 is not how numbers are written here; write a sm",
    ),
    "long number": (
        f"params: {{min_edge_bps: {'9' * 5000}}}",
        "4:24: params.min_edge_bps: a number this long is not accepted; use at most 40",
    ),
    "yes": ("enabled: yes", "4:10: enabled: yes could mean yes, no or text; write true"),
    "date": (
        "description: 2026-01-01",
        '4:14: description: 2026-01-01 has a special meaning in YAML; write "2026-01-01"',
    ),
    "number in quotes": (
        'params: {min_profit_usd: "0.50"}',
        '4:26: params.min_profit_usd: must be a number without quotes, got "0.50"; write 0.50',
    ),
    "text for a number": (
        "dedupe:\n  cooldown_secs: soon",
        '5:18: dedupe.cooldown_secs: must be a whole number without quotes, got "soon"; write 60',
    ),
    "number for a switch": ("enabled: 1", "4:10: enabled: must be true or false, got 1; write"),
    "number for an id": (
        "scope: {events: [16092]}",
        '4:18: scope.events[0]: must be text, got 16092; write ["16092"]',
    ),
    "text for a list": (
        "params: {kinds: binary}",
        '4:17: params.kinds: must be a list, got "binary"; write [binary, yes_basket, no_basket]',
    ),
    "unknown kind": (
        "params: {kinds: [binary, tertiary]}",
        "4:26: params.kinds[1]: must be 'binary', 'yes_basket' or 'no_basket', got \"tertiary\"",
    ),
    "same kind twice": (
        "params: {kinds: [binary, binary]}",
        "4:17: params.kinds: names binary more than once; write [binary,",
    ),
    "list for a mapping": ("scope: []", "4:8: scope: must be a mapping of `key: value` lines"),
    "negative": (
        "params: {min_profit_usd: -1}",
        "4:26: params.min_profit_usd: must be greater than or equal to 0, got -1; write 0.50",
    ),
    "a phantom P1": (
        "outputs: {THIN: P1}",
        "4:17: outputs.THIN: must be 'P2' or 'P3', got \"P1\"; write P2",
    ),
    "hidden direction": (
        "description: a\u202eb",
        "4:14: description: has the unprintable character U+202E; write",
    ),
    "unknown key": ("titel: x", "4:1: titel: is not a known key; write title, or remove it"),
    "nested unknown key": (
        "scope:\n  markets: []",
        "5:3: scope.markets: is not a known key; remove it; known here: tags, events,",
    ),
    "merge key": ("<<: {enabled: true}", "4:1: <<: is not a known key; remove it"),
    "repeated key": ("title: Other", "4:1: title: already set on line 2; keep one of the two"),
}


@pytest.mark.parametrize(("line", "told"), WRONG_VALUES.values(), ids=WRONG_VALUES.keys())
def test_wrong_value_is_told_with_its_place_and_what_to_write(line: str, told: str):
    (problem,) = refusal(minimal_and(line))

    assert problem.startswith(f"rule.yaml:{told}")


TRAPS = {
    "alias bomb": (
        "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\n",
        "1:4: a: anchor &a is not allowed; remove the anchor",
    ),
    "alias": ("title: *a", "1:8: title: alias *a is not allowed; write the value out again"),
    "tag": (
        "title: !!python/object:os.system x",
        "1:8: title: tag tag:yaml.org,2002:python/object:os.system is not allowed; remove",
    ),
    "600 kB": ("# " + "x" * 600_000, "1:1: the text is longer than 65,536 bytes; keep one rule"),
    "deep lists": ("a: " + "[" * 3000, "1:23: a[0][0][0]: nested deeper than 20 is not allowed"),
    "deep blocks": ("- " * 3000, "1:41: [0][0][0][0]: nested deeper than 20 is not allowed"),
    "second document": (f"{MINIMAL}---\na: 1", "4:1: a second document starts here; keep one"),
    "key that is a list": ("[a]: 1", "1:1: a key that is not one word; write `key: value`"),
    "control character": ("title: \x07", "1:8: control character U+0007; remove it"),
    "syntax": ("title: 'x", "1:10: while scanning a quoted scalar found unexpected end"),
    "tab": ("scope:\n\ttags: []", "2:1: while scanning for the next token found character"),
    "empty": ("", "1:1: must be a mapping of `key: value` lines, got null; start with `code: "),
    "list": ("- a", "1:1: must be a mapping of `key: value` lines, got a list; start with `code: "),
}


@pytest.mark.parametrize(("text", "told"), TRAPS.values(), ids=TRAPS.keys())
def test_trap_stops_the_reading_at_its_place(text: str, told: str):
    (problem,) = refusal(text)

    assert problem.startswith(f"rule.yaml:{told}")


def test_all_problems_of_a_text_are_told_at_once_in_its_order():
    text = minimal_and("enabled: no\nparams:\n  min_profit_usd: 1e-3\n  kind: []\ndedupe: 60")

    places = [problem.split(": ")[0] for problem in refusal(text)]

    assert places == ["rule.yaml:4:10", "rule.yaml:6:19", "rule.yaml:7:3", "rule.yaml:8:9"]


def test_unknown_detector_names_those_there_are_and_its_params_are_not_judged():
    text = "code: SPY\ntitle: x\ndetector: spyke\nparams: {a: 1}\n"

    assert refusal(text) == [
        'rule.yaml:3:11: detector: "spyke" is not a detector; write dutch_book, cross_market, '
        "spike, endgame, imbalance, trend or temporal"
    ]


def test_missing_keys_are_named_with_an_example():
    assert refusal("detector: dutch_book") == [
        "rule.yaml:1:1: code: is missing; add `code: DUTCH_BOOK_DETECT`",
        "rule.yaml:1:1: title: is missing; add `title: Dutch book`",
    ]


def test_depth_of_twenty_is_read():
    assert read_yaml("[" * 20 + "]" * 20, source="x").complete
    assert not read_yaml("[" * 21 + "]" * 21, source="x").complete


def test_size_limit_counts_bytes():
    assert read_yaml("#" * MAX_BYTES, source="x").complete
    assert not read_yaml("#" + "é" * (MAX_BYTES // 2), source="x").complete


# --- folders and files


def test_a_broken_file_does_not_hide_the_good_ones(tmp_path: Path):
    (tmp_path / "a.yaml").write_text("code: [")
    (tmp_path / "b.yml").write_text(MINIMAL)
    (tmp_path / "c.yaml").write_text(MINIMAL)
    (tmp_path / "notes.txt").write_text("not a rule")

    files, problems = read_dir(tmp_path)

    assert [file.path.name for file in files] == ["b.yml"]
    assert [Path(problem.source).name for problem in problems] == ["a.yaml", "c.yaml"]
    assert "already defined in b.yml" in problems[1].message
    with pytest.raises(RuleError):
        load_dir(tmp_path)


def test_file_that_is_not_utf8_is_told_with_the_place_of_the_byte(tmp_path: Path):
    path = tmp_path / "latin.yaml"
    path.write_bytes(MINIMAL.encode() + b"description: caf\xe9\n")

    with pytest.raises(RuleError) as refused:
        read_rule(path)

    assert str(refused.value).startswith(f"{path}:4:17: the byte 0xE9 is not UTF-8; save")


# --- what the fields do


def market(market_id: str, liquidity: str) -> MarketTerms:
    return MarketTerms(
        market_id=market_id,
        condition_id=market_id,
        question="",
        token_ids=(f"{market_id}1", f"{market_id}2"),
        outcomes=("Yes", "No"),
        tick=100,
        min_size=5_000_000,
        fee=FREE,
        untradable=None,
        payout=None,
        end_at=None,
        liquidity=Decimal(liquidity),
    )


EVENT = EventTerms("7", "Cup", True, False, (market("1", "150.5"), market("2", "49.5")))


@pytest.mark.parametrize(
    ("scope", "covered"),
    [
        (Scope(), True),
        (Scope(events=("7", "8")), True),
        (Scope(events=("8",)), False),
        (Scope(tags=("sports", "economy")), True),
        (Scope(tags=("economy",)), False),
        (Scope(exclude=Exclude(events=("7",))), False),
        (Scope(events=("7",), exclude=Exclude(tags=("sports",))), False),
        (Scope(min_liquidity_usd=Decimal(200)), True),
        (Scope(min_liquidity_usd=Decimal("200.01")), False),
    ],
)
def test_scope_covers(scope: Scope, covered: bool):
    assert scope.covers(EVENT, tags=frozenset({"sports"})) is covered


def finding(*, edge_bps: str, profit: str, cost: str) -> Finding:
    return Finding(
        kind="binary",
        event_id="7",
        market_ids=("1",),
        legs=(),
        cost=Decimal(cost),
        fees=Decimal(0),
        min_payoff=Decimal(cost) + Decimal(profit),
        profit=Decimal(profit),
        edge_bps=Decimal(edge_bps),
        annualised_pct=None,
        instant=True,
        verdict="EXECUTABLE",
        blocked_by=(),
        conditions=(),
        certificate=Certificate("yes", Decimal(cost) + Decimal(profit), 2),
    )


def test_score_weighs_the_finding_and_stays_within_0_and_100():
    weights = Weights(edge_bps=Decimal("0.1"), profit_usd=Decimal("0.5"), cost_usd=Decimal("-0.01"))
    scoring = Scoring(base=Decimal(40), weights=weights)

    assert scoring.score(finding(edge_bps="100", profit="1", cost="100")) == Decimal("49.5")
    assert scoring.score(finding(edge_bps="9000", profit="90", cost="100")) == 100
    assert scoring.score(finding(edge_bps="0", profit="0", cost="99999")) == 0


# --- what is only observed

SPIKE = "code: SPIKE_DETECT\ntitle: x\ndetector: spike\n"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("outputs: {OBSERVED: P1}", "4:21: outputs.OBSERVED: must be 'P2' or 'P3', got \"P1\""),
        ("outputs: {EXECUTABLE: P1}", "4:11: outputs.EXECUTABLE: is not a known key; remove it"),
        ("scoring: {weights: {edge_bps: 1}}", "4:21: scoring.weights.edge_bps: is not a known key"),
        ("params: {treshold: 24}", "4:10: params.treshold: is not a known key; write threshold"),
        ("params: {threshold: 0}", "4:21: params.threshold: "),
        ("params: {max_spread: 1}", "4:22: params.max_spread: "),
        ("params: {persist_updates: 2.5}", "4:27: params.persist_updates: must be a whole number"),
    ],
)
def test_an_observation_cannot_be_executable_and_its_numbers_have_bounds(line, problem):
    (told,) = refusal(f"{SPIKE}{line}\n")

    assert told.startswith(f"rule.yaml:{problem}")


def seen(*blocked_by: str, strength: str = "2") -> Finding:
    return observed(
        "spike", market_terms(0), facts={}, strength=float(strength), blocked_by=blocked_by
    )


def test_what_is_observed_has_levels_of_its_own():
    rule = parse_rule(f"{SPIKE}outputs: {{OBSERVED: P2, BLOCKED: P3}}\n", source="x")

    assert isinstance(rule, ObservedRule)
    assert rule.outputs.level("OBSERVED") == "P2"
    assert rule.outputs.level_of(seen()) == "P2"
    assert rule.outputs.level_of(seen("insufficient_data")) == "P3"
    assert Outputs().level("OBSERVED") == "P3"
    assert Outputs().level_of(finding(edge_bps="1", profit="1", cost="1")) == "P1"


def test_the_score_of_what_is_observed_counts_its_strength():
    text = f"{SPIKE}scoring: {{base: 40, weights: {{strength: 10}}}}\n"
    scoring = parse_rule(text, source="x").scoring

    assert scoring.score(seen(strength="1.5")) == 55
    assert scoring.score(seen(strength="100")) == 100


# --- properties

amounts = st.decimals(0, 999_999_999, places=6, allow_nan=False, allow_infinity=False)
positive = st.decimals("0.000001", 999_999_999, places=6)
points = st.decimals(-1000, 1000, places=6)
signs = st.characters(codec="utf-8", exclude_categories=("C", "Z"), include_characters=" '\"\\:#")
ids = st.lists(st.integers(0, 10**78 - 1).map(str), unique=True, max_size=4).map(tuple)
slugs = st.lists(st.from_regex(r"[a-z0-9]{1,8}(-[a-z0-9]{1,8})?", fullmatch=True), unique=True)
tags = slugs.map(lambda items: tuple(items[:4]))
rules = st.builds(
    DutchBookRule,
    code=st.from_regex(r"[A-Z][A-Z0-9_]{2,20}", fullmatch=True),
    title=st.text(signs, max_size=60).map(lambda text: f"x{text}"),
    description=st.text(signs | st.just("\n"), max_size=200),
    detector=st.just("dutch_book"),
    enabled=st.booleans(),
    params=st.builds(
        DutchBookParams,
        kinds=st.lists(st.sampled_from(DutchBookParams.ALL), unique=True, min_size=1).map(tuple),
        capital_usd=st.none() | positive,
        min_profit_usd=amounts,
        min_edge_bps=amounts,
    ),
    scope=st.builds(
        Scope,
        tags=tags,
        events=ids,
        min_liquidity_usd=amounts,
        exclude=st.builds(Exclude, tags=tags, events=ids),
    ),
    scoring=st.builds(
        Scoring,
        base=st.decimals(0, 100, places=6),
        weights=st.builds(Weights, edge_bps=points, profit_usd=points, cost_usd=points),
    ),
    dedupe=st.builds(Dedupe, cooldown_secs=st.integers(0, 86_400)),
    outputs=st.builds(
        Outputs,
        EXECUTABLE=st.sampled_from(["P1", "P2", "P3"]),
        THIN=st.sampled_from(["P2", "P3"]),
        BLOCKED=st.sampled_from(["P2", "P3"]),
    ),
)


@given(rules)
def test_parsing_the_canonical_text_gives_the_same_rule(written: DutchBookRule):
    read = parse_rule(written.canonical(), source="canonical")

    assert read == written
    assert read.canonical() == written.canonical()
    assert read.sha256 == written.sha256


@given(st.text() | st.text("ab:-[]{}&*!|>'\"#%@`, \n\t01.e?~<=\\").map(lambda t: MINIMAL + t))
def test_no_text_does_anything_but_parse_or_be_refused_inside_itself(text: str):
    try:
        parse_rule(text, source="x")
    except RuleError as error:
        assert error.problems
        for problem in error.problems:
            assert 1 <= problem.line <= len(text.splitlines()) + 1
            assert problem.column >= 1
            assert problem.message
            assert problem.instead


# --- the page about it


def leaves(model: type[BaseModel], prefix: str = "") -> set[str]:
    names: set[str] = set()
    for name, info in model.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            names |= leaves(inner, f"{prefix}{name}.")
        else:
            names.add(f"{prefix}{name}")
    return names


def documented(page: str) -> set[str]:
    """The fields named in the first column of the page's tables, `.x` completed from the left."""
    names: set[str] = set()
    for first_column in re.findall(r"^\| (`[^|]+`) \|", page, flags=re.MULTILINE):
        parent = ""
        for name in re.findall(r"`([^`]+)`", first_column):
            full = f"{parent}{name}" if name.startswith(".") else name
            parent = full.rpartition(".")[0]
            names.add(full)
    return names


PAGE = SHIPPED.parent.parent / "docs" / "rules.md"


def sections() -> dict[str, str]:
    """Return the page's sections about one detector each, and the rest under ""."""
    parts = re.split(r"^###? (.+)\n", PAGE.read_text(), flags=re.MULTILINE)
    found = {"": parts[0]}
    for title, text in zip(parts[1::2], parts[2::2], strict=True):
        key = title if title in DETECTORS else ""
        found[key] = found.get(key, "") + text
    return found


@pytest.mark.parametrize("detector", DETECTORS)
def test_every_parameter_is_in_its_section_and_the_section_names_no_other(detector):
    params = DETECTORS[detector].model_fields["params"].annotation

    assert documented(sections()[detector]) == leaves(params)


def test_every_other_field_is_on_the_page_and_the_page_names_no_other():
    fields = {
        name
        for schema in DETECTORS.values()
        for name in leaves(schema)
        if not name.startswith("params.")
    }

    assert documented(sections()[""]) == fields | {"params"} | set(DETECTORS)


@pytest.mark.parametrize("detector", DETECTORS)
def test_the_page_gives_the_defaults_of_every_parameter(detector):
    params = DETECTORS[detector].model_fields["params"].annotation
    given = {}
    for names, defaults in re.findall(r"^\| ([^|]+) \| ([^|]+) \|", sections()[detector], re.M):
        named = re.findall(r"`([^`]+)`", names)
        values = [value.strip(" `") for value in defaults.split(",")]
        given |= dict(zip(named, values * len(named) if len(values) == 1 else values, strict=False))

    for name, info in params.model_fields.items():
        if name != "kinds":
            assert given[name] == written(info.default), name


def written(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(value)


def test_the_example_of_the_page_is_a_rule():
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)

    assert rule(example).scope.exclude.tags == ("sports",)
