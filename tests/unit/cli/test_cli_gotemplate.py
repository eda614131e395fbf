from __future__ import annotations

from typing import Any

import pytest

from mydocker.base.errors import InvalidRequest
from mydocker.cli.gotemplate import parse

DATA: dict[str, Any] = {
    "ID": "17",
    "State": {"exit_code": 3, "Running": True, "oom-killed": False},
    "Labels": {"com.example.b": "two", "a": "one"},
    "Mounts": [{"Source": "/a"}, {"Source": "/b"}],
    "Words": ["x", "y"],
    "None": None,
    "Empty": [],
    "Ratio": 0.5,
    "Label": lambda key: DATA["Labels"].get(key, ""),
}


@pytest.mark.parametrize(("text", "expected"), [
    ("plain", "plain"),
    ("{{.ID}}", "17"),
    ("{{ .ID }}", "17"),
    ("{{.State.Running}}", "true"),
    ("{{.State.ExitCode}}", "3"),
    ("{{.State.OOMKilled}}", "false"),
    ("{{.Ratio}}", "0.5"),
    ("{{.None}}", "<no value>"),
    ("{{.Words}} {{.Labels}}", "[x y] map[a:one com.example.b:two]"),
    ("{{json .Labels}}", '{"com.example.b":"two","a":"one"}'),
    ("{{json .ID}} {{.Words | json}}", '"17" ["x","y"]'),
    ('{{index .Labels "com.example.b"}}', "two"),
    ('{{index .Labels "absent"}}', ""),
    ("{{index .Words 1}}", "y"),
    ("{{(index .Mounts 1).Source}}", "/b"),
    ("{{len .Words}}{{len .ID}}", "22"),
    ('{{join .Words ", "}}', "x, y"),
    ('{{index (split "a:b" ":") 1}}', "b"),
    ('{{upper "a"}}{{"B" | lower}}{{title "ab"}}', "AbAb"),
    ("{{println .ID}}.", "17\n."),
    ('{{print "a" 1}}', "a1"),
    ('{{printf "%s-%d-%v-%t" .ID 5 .Words true}}', "17-5-[x y]-true"),
    ('{{printf "%-5s|%5s|%05d|%.2f|%q|%x|%%" .ID .ID 42 1.5 .ID 255}}', '17   |   17|00042|1.50|"17"|ff|%'),
    ('{{printf "%s"}}{{printf "a" 1}}', "%!s(MISSING)a%!(EXTRA 1)"),
    ('{{.ID | printf "%4s" | printf "[%s]"}}', "[  17]"),
    ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
    ("{{if .Empty}}some{{end}}none", "none"),
    ('{{if eq .ID "1"}}a{{else if eq .ID "2" "17"}}b{{else}}c{{end}}', "b"),
    ("{{if and .ID (not .Empty)}}yes{{end}}", "yes"),
    ("{{if or .Empty .None}}yes{{else}}no{{end}}", "no"),
    ("{{if gt .State.exit_code 2}}big{{end}}{{ne 1 2}}{{lt 1 2}}{{le 2 2}}{{ge 1 2}}", "bigtruetruetruefalse"),
    ("{{range .Words}}<{{.}}{{$.ID}}>{{end}}", "<x17><y17>"),
    ("{{range $i, $w := .Words}}{{$i}}{{$w}}{{end}}", "0x1y"),
    ("{{range $k, $v := .Labels}}{{$k}}={{$v}};{{end}}", "a=one;com.example.b=two;"),
    ("{{range $w := .Words}}{{$w}}{{end}}", "xy"),
    ("{{range .Empty}}a{{else}}nothing{{end}}", "nothing"),
    ("{{range .Mounts}}{{.Source}} {{end}}", "/a /b "),
    ("{{range $m := .Mounts}}{{$m.Source}}{{end}}", "/a/b"),
    ("{{range .None}}a{{end}}", ""),
    ("{{with .State}}{{.exit_code}}{{end}}", "3"),
    ("{{with .None}}a{{else}}{{.ID}}{{end}}", "17"),
    ("{{$x := .ID}}{{$x}}{{$x = 2}}{{$x}}", "172"),
    ("a {{- .ID -}} b", "a17b"),
    ("{{/* a {{ comment */}}x", "x"),
    ("a\\tb\\n", "a\tb\n"),
    ('{{"a\\tb"}}{{`c\\t`}}', "a\tbc\\t"),
    ('{{"}}"}}', "}}"),
    ('{{.Label "a"}}', "one"),
    ("{{slice .ID 1}}{{slice .ID 0 1}}", "71"),
    ("{{truncate .ID 1}}{{pad .ID 1 1}}", "1 17 "),
    ("{{true}}{{nil}}", "true<no value>"),
    ("", ""),
])
def test_a_template_prints_what_go_prints(text: str, expected: str) -> None:
    assert parse(text).render(DATA) == expected


@pytest.mark.parametrize("text", [
    "{{", "{{.ID", "{{}}", "{{ }}", "{{end}}", "{{else}}", "{{if .ID}}", "{{range .Words}}x", "{{if}}x{{end}}",
    "{{.ID | }}", "{{| json}}", "{{nosuch .ID}}", '{{"open}}', "{{(.ID}}", "{{.ID)}}", "{{#}}", "{{1x}}",
    "{{range $a, $b, $c := .Words}}{{end}}", "{{if .ID}}a{{else}}b{{else}}c{{end}}", "{{.ID 1}}",
    "{{.Nosuch}}", "{{.ID.Nosuch}}", "{{.None.X}}", "{{$nosuch}}", "{{len 3}}", "{{index .Words 7}}", "{{index 3 1}}",
    "{{range .ID}}{{end}}", "{{join .ID \",\"}}", '{{json .Label}}{{printf 1}}', "{{lt .ID 1}}", "{{upper}}",
    "{{" + "(" * 3000 + ".ID" + ")" * 3000 + "}}",
])
def test_a_wrong_template_is_an_invalid_request_never_a_traceback(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^format: "):
        parse(text).render(DATA)


def test_a_missing_field_names_those_that_exist() -> None:
    with pytest.raises(InvalidRequest, match=r"no field \.Foo here; there are ID"):
        parse("{{.Foo}}").render({"ID": 1})


def test_one_template_serves_many_items() -> None:
    template = parse("{{$x := .ID}}{{$x}}")
    assert [template.render({"ID": number}) for number in range(3)] == ["0", "1", "2"]
