"""A dataclass as a node of the config: keys, checks, values, and keys that were renamed."""

import math
from dataclasses import FrozenInstanceError, dataclass

import pytest
from detectron2.config import CfgNode

from wsis.config import flatten, get_cfg, load_cfg, params, renamed, rules
from wsis.config.params import add_keys, check, key, keys_of, node, part, read
from wsis.errors import ConfigError


@dataclass(frozen=True)
class Inner:
    """
    Attributes:
        weight: Weight of it,
            in kilograms.
        names: Its names.
    """

    weight: float = key(1.0, rules.above(0))
    names: tuple[str, ...] = key(())


@dataclass(frozen=True)
class Outer:
    """
    Attributes:
        steps: Steps that it takes.
        state: Not a key.
    """

    steps: int = key(3, rules.at_least(1), "NUM_STEPS")
    state: str = "none"
    inner: Inner = part(Inner(weight=2.0), "INNER", "This is below.")
    flat: Inner = part(Inner(names=("a", "b")))


@pytest.fixture
def cfg(monkeypatch):
    monkeypatch.setattr(params, "_NODES", {})
    node("MODEL.OUTER")(Outer)
    found = CfgNode({"MODEL": CfgNode({"OLD": 1})})
    add_keys(found)
    return found


def test_fields_are_keys(cfg):
    inner = {"WEIGHT": 2.0, "NAMES": []}
    outer = {"NUM_STEPS": 3, "INNER": inner, "WEIGHT": 1.0, "NAMES": ["a", "b"]}
    assert cfg == {"MODEL": {"OLD": 1, "OUTER": outer}}
    texts = {each.name: each.text for each in keys_of(Outer(), "X")}
    assert texts["X.NUM_STEPS"] == "Steps that it takes."
    assert texts["X.WEIGHT"] == "Weight of it, in kilograms."
    assert texts["X.INNER.NAMES"] == "Its names. This is below."


def test_no_config_shares_its_lists(cfg):
    cfg.MODEL.OUTER.NAMES.append("c")
    assert read(cfg, Outer).flat.names == ("a", "b", "c")
    assert Outer().flat.names == ("a", "b")


def test_it_is_read_as_it_is_built(cfg):
    assert read(cfg, Outer) == Outer()
    cfg.merge_from_list(["MODEL.OUTER.NUM_STEPS", 5, "MODEL.OUTER.INNER.NAMES", ["x"]])
    assert read(cfg, Outer) == Outer(5, inner=Inner(2.0, ("x",)))
    with pytest.raises(FrozenInstanceError):
        read(cfg, Outer).steps = 1


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("NUM_STEPS", 0, "MODEL.OUTER.NUM_STEPS: found 0, expected at least 1"),
        ("WEIGHT", -1.0, "MODEL.OUTER.WEIGHT: found -1.0, expected above 0"),
        ("INNER.WEIGHT", 0.0, "MODEL.OUTER.INNER.WEIGHT: found 0.0, expected above 0"),
    ],
)
def test_a_value_out_of_its_range_is_named(cfg, name, value, message):
    cfg.merge_from_list([f"MODEL.OUTER.{name}", value])
    with pytest.raises(ConfigError) as error:
        read(cfg, Outer)
    assert str(error.value) == message


@pytest.mark.parametrize(("where", "name"), [((), "MODEL.OUTER"), (("HERE",), "^HERE")])
def test_what_is_built_by_itself_is_checked_on_request(cfg, where, name):
    with pytest.raises(ConfigError, match=f"{name}.NUM_STEPS: found 0"):
        check(Outer(steps=0), *where)


PAIR = rules.pair("", lambda low, high: 0 < low <= high)
THREE = rules.each("", lambda value: value >= 1, number=3)
NO_NUMBERS = (math.nan, "1", None)


@pytest.mark.parametrize(
    ("rule", "expected", "right", "wrong"),
    [
        (rules.at_least(1), "at least 1", (1, 2.5), (0, 0.9, *NO_NUMBERS)),
        (rules.above(0), "above 0", (0.1, 7), (0, -1, *NO_NUMBERS)),
        (rules.at_least_below(0, 0.5), "at least 0, below 0.5", (0, 0.4), (-0.1, 0.5, *NO_NUMBERS)),
        (rules.above_at_most(0, 1), "above 0, at most 1", (0.1, 1), (0, 1.1, *NO_NUMBERS)),
        (rules.within(0, 1), "in [0, 1]", (0, 0.5, 1), (-0.1, 1.1, *NO_NUMBERS)),
        (rules.within(0, 1, "0 to 1"), "0 to 1", (0, 1), (2,)),
        (rules.one_of(("a", "b")), "one of a, b", ("a", "b"), ("", "c", "ab")),
        (rules.either("a", "b"), "a or b", ("a", "b"), ("", "c", "ab")),
        (rules.length(2, "two"), "two", ((1, 2), ["a", "b"]), ((), (1,), 2)),
        (PAIR, "", ((1, 1), [1, 2]), ((2, 1), (1,), (1, 2, 3), (0, 1), ("a", 1), 1)),
        (THREE, "", ((1, 2, 3),), ((), (1, 1), (1, 1, 0), (1, 1, "1"))),
        (rules.each("", rules.share), "", ((0,), [0.5, 0.9]), ((), (1,), (0.5, -0.1), ("a",))),
    ],
)
def test_rules(rule, expected, right, wrong):
    assert rule.expected == expected
    assert all(rule.holds(value) for value in right)
    assert not any(rule.holds(value) for value in wrong)


@pytest.mark.parametrize(
    ("key", "now"),
    [
        ("MODEL.GRABCUTS.WINDOW", "MODEL.GRABCUT.WINDOW"),
        ("MODEL.BOXES.CRF", "MODEL.BOX_CRF.CRF"),
        ("MODEL.BOXES.PRIOR", "MODEL.BOX_CRF.PRIOR"),
        ("MODEL.BOXES.ROUNDS", "MODEL.BOX_CRF.ITERATIONS"),
    ],
)
def test_a_renamed_key_is_told_with_its_new_name(key, now, monkeypatch, tmp_path):
    names = {"MODEL.GRABCUTS.WINDOW": "MODEL.GRABCUT.WINDOW", "MODEL.BOXES": "MODEL.BOX_CRF"}
    names |= {"MODEL.BOXES.ROUNDS": "MODEL.BOX_CRF.ITERATIONS"}
    monkeypatch.setattr(renamed, "RENAMED", names)
    path, leaf = tmp_path / "a.yaml", tmp_path / "leaf.yaml"
    path.write_text("{" + key.replace(".", ": {") + ": 1}}}")
    leaf.write_text('_BASE_: "a.yaml"')
    sources = {f"command line: {key}": (None, [key, "1"]), path: (path,), leaf: (leaf,)}
    for source, given in sources.items():
        with pytest.raises(ConfigError) as error:
            load_cfg(*given)
        assert str(error.value) == f"{source}: no such key {key}: it is now {now}"


def test_every_new_name_is_a_key():
    flat = flatten(get_cfg())
    for new in renamed.RENAMED.values():
        assert any(f"{key}.".startswith(f"{new}.") for key in flat)
    assert not set(renamed.RENAMED) & set(flat)
