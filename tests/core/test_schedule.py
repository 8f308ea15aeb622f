"""Embedding schedules: every timestep has exactly one source."""

import pytest

from faceprivacy_core.diffusion.schedules import ddim_timesteps
from faceprivacy_core.embeddings.schedule import (
    Rule,
    Source,
    StageSchedule,
    anonymise_schedule,
    hide_schedule,
    parse_schedule,
    recover_schedule,
    stage_of,
)
from faceprivacy_core.errors import InputError


def test_stages_are_half_open_tenths():
    assert [stage_of(t) for t in (0, 99, 100, 999)] == [0, 0, 1, 9]
    assert {stage_of(t, 1) for t in range(1000)} == {0}


def test_anonymise_uses_the_picture_for_ten_steps_and_the_empty_prompt_for_twenty():
    steps = ddim_timesteps(50)[:30].flip(0).tolist()
    sources = [anonymise_schedule().source_at(t) for t in steps]
    assert sources == [Source.IMAGE] * 10 + [Source.EMPTY] * 20
    assert [stage_of(t) for t in steps[:10]] == [5] * 5 + [4] * 5


def test_hide_uses_the_picture_for_twenty_steps_and_the_empty_prompt_for_sixty():
    steps = ddim_timesteps(100)[:80].flip(0).tolist()
    sources = [hide_schedule().source_at(t) for t in steps]
    assert sources == [Source.IMAGE] * 20 + [Source.EMPTY] * 60
    assert [stage_of(t) for t in steps[:20]] == [7] * 10 + [6] * 10


def test_a_schedule_can_be_written_by_hand():
    expected = StageSchedule((Rule(1000, 600, Source.IMAGE), Rule(600, 350, Source.EMPTY), Rule(350, 0, Source.IMAGE)))
    assert parse_schedule("1000-600 image, 600-350 empty\n 350 - 0 Image,") == expected
    assert parse_schedule("1000-400 image, 400-0 empty") == anonymise_schedule()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "down to 0"),
        ("1000-0", "ranges like"),
        ("1000-0 picture", "ranges like"),
        ("900-0 image", "down to 0"),
        ("1000-10 image", "down to 0"),
        ("1000-500 image, 400-0 empty", "gap"),
        ("1000-300 image, 400-0 empty", "gap"),
        ("1000-1000 image, 1000-0 empty", "low"),
        ("2000-0 image", "down to 0"),
        ("-1000-0 image", "ranges like"),
    ],
)
def test_a_badly_written_schedule_is_refused(text: str, reason: str):
    with pytest.raises(InputError, match=reason):
        parse_schedule(text)


def test_the_switch_itself_belongs_to_the_picture():
    schedule = anonymise_schedule(400)
    assert schedule.source_at(400) is Source.IMAGE
    assert schedule.source_at(399.999) is Source.EMPTY


def test_recover_uses_the_picture_everywhere():
    assert {recover_schedule().source_at(t) for t in range(1000)} == {Source.IMAGE}


@pytest.mark.parametrize(
    "rules",
    [
        (),
        (Rule(1000, 500, Source.IMAGE), Rule(400, 0, Source.EMPTY)),
        (Rule(1000, 300, Source.IMAGE), Rule(400, 0, Source.EMPTY)),
        (Rule(300, 300, Source.IMAGE),),
    ],
)
def test_gaps_overlaps_and_empty_schedules_are_refused(rules: tuple[Rule, ...]):
    with pytest.raises(InputError):
        StageSchedule(rules)
