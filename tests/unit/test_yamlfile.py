"""YAML files: what a person gets wrong is told with file, line, key and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from budgets.yamlfile import (
    ConfigErrors,
    Finding,
    Severity,
    Strict,
    did_you_mean,
    dotted,
    parse_yaml,
    read_yaml,
    validate,
)

HERE = Path("some.yaml")


class Inner(Strict):
    size: int = Field(gt=0)
    title: str = "none"


class Outer(Strict):
    name: str
    things: dict[str, Inner] = Field(default_factory=dict)
    listed: tuple[Inner, ...] = ()


def findings(text: str | bytes, model: type[Strict] = Outer) -> tuple[Finding, ...]:
    content = text.encode() if isinstance(text, str) else text
    with pytest.raises(ConfigErrors) as caught:
        validate(model, parse_yaml(content, HERE))
    return caught.value.findings


def only(text: str | bytes) -> Finding:
    (finding,) = findings(text)
    return finding


def test_a_finding_reads_as_file_line_key_message_hint() -> None:
    finding = Finding("a.yaml", 7, "x.y", "is wrong", "mend it")
    assert str(finding) == "a.yaml:7: x.y: is wrong (mend it)"
    assert str(Finding("a.yaml", 0, "", "is missing")) == "a.yaml: is missing"
    assert finding.severity is Severity.ERROR


def test_keys_are_written_as_people_write_them() -> None:
    assert dotted(("model_list", 2, "model_name")) == "model_list[2].model_name"
    assert dotted(()) == ""


def test_an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() -> None:
    finding = only("name: a\nthings:\n  one:\n    size: 1\n    titel: b\n")
    assert (finding.line, finding.key) == (5, "things.one.titel")
    assert finding.message == "unknown key"
    assert finding.hint == "did you mean `title`?"


def test_a_missing_key_points_at_the_mapping_it_belongs_into() -> None:
    finding = only("name: a\nlisted:\n  - size: 1\n  - title: b\n")
    assert finding.line == 4
    assert "missing" in finding.message and "size" in finding.hint


def test_a_wrong_value_is_shown_at_its_line() -> None:
    finding = only("name: a\nthings:\n  one: {size: big}\n")
    assert (finding.line, finding.key) == (3, "things.one.size")
    assert "not 'big'" in finding.message


@pytest.mark.parametrize("word", ["no", "2025-12-15", "12", "1.5"])
def test_text_that_yaml_reads_as_something_else_gets_the_hint_to_quote_it(word: str) -> None:
    finding = only(f"name: {word}\n")
    assert finding.key == "name" and "quotes" in finding.hint


def test_every_mistake_is_told_at_once() -> None:
    found = findings("nmae: a\nthings:\n  one: {size: 0}\n  two: {}\n")
    assert len(found) == 4
    assert {"nmae", "things.one.size"} <= {finding.key for finding in found}


def test_a_key_that_stands_twice_is_refused_though_yaml_would_keep_the_last() -> None:
    finding = only("name: a\nthings:\n  one: {size: 1}\n  one: {size: 2}\n")
    assert (finding.line, finding.key) == (4, "things.one")
    assert "twice, first on line 3" in finding.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("# only a comment\n", "empty"),
        ("- a\n- b\n", "mapping"),
        ("name: [a\n", "not valid YAML"),
        ("name: 'a\n", "not valid YAML"),
        ("name: a\n\tthings: {}\n", "not valid YAML"),
        ("name: !!python/object/apply:os.system [ls]\n", "not valid YAML"),
        ("name: *nowhere\n", "not valid YAML"),
        ("name: 2025-13-45\n", "not valid YAML"),
        ("? [a, b]\n: c\n", "plain text"),
        ("a: b\n---\nc: d\n", "not valid YAML"),
    ],
)
def test_what_is_not_a_mapping_in_yaml_is_refused(text: str, message: str) -> None:
    assert message in findings(text)[0].message


def test_a_syntax_error_has_its_line() -> None:
    assert only("name: a\nthings:\n  one: {size: 1\nlisted: []\n").line in (3, 4)


def test_bytes_that_are_no_text_are_told_with_their_line() -> None:
    finding = only(b"name: a\nthings: {}\n# \xff\n")
    assert finding.line == 3 and "UTF-8" in finding.message


def test_a_byte_order_mark_is_no_part_of_the_first_key() -> None:
    assert validate(Outer, parse_yaml(b"\xef\xbb\xbfname: a\n", HERE)).name == "a"


def test_aliases_that_multiply_are_stopped() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "too large" in findings("\n".join(lines))[0].message


def test_an_alias_of_itself_and_a_deep_nest_are_stopped() -> None:
    assert "too deeply" in findings("a: &a [*a]\n")[0].message
    assert "too deeply" in findings("a: " + "[" * 100_000)[0].message
    assert "too deeply" in findings("a: " + "[" * 200 + "]" * 200)[0].message


def test_a_file_beyond_the_bound_is_not_parsed() -> None:
    assert "over" in only(b"#" * 4_000_001).message


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match="does not exist"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(ConfigErrors, match="cannot be read"):
        read_yaml(tmp_path)


def test_the_digest_names_the_bytes() -> None:
    one, two = parse_yaml(b"name: a\n", HERE), parse_yaml(b"name: a \n", HERE)
    assert one.data == two.data and one.digest != two.digest


def test_the_nearest_word_is_suggested_else_a_few_known_ones() -> None:
    assert did_you_mean("fast", ["FAST", "NORMAL"]) == "did you mean `FAST`?"
    assert did_you_mean("opus", ["claude-opus", "minimax"]) == "did you mean `claude-opus`?"
    assert did_you_mean("zzz", ["b", "a"]) == "known here: a, b"
    assert did_you_mean("zzz", []) == ""


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_end_in_a_file_or_in_findings(content: bytes) -> None:
    try:
        file = parse_yaml(content, HERE)
    except ConfigErrors as error:
        assert error.findings
    else:
        assert all(line > 0 for line in file.lines.values())
