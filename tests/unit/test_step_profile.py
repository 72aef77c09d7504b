"""Where a token's time goes: the parts add up, the stacks are what was done, the picture is a picture."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from tercet import LLM
from tercet.cli.monitor.asking import asked
from tercet.engine.async_engine import AsyncEngine
from tercet.engine.request import Request
from tercet.engine.step_times import PARTS as STEP_PARTS
from tercet.engine.step_times import StepTimes
from tercet.errors import OverloadedError, ParameterError, StorageError, UnavailableError
from tercet.monitoring.flame_graph import flame_graph, folded, speedscope, write_flame_graph
from tercet.monitoring.stack_samples import StackSampler
from tercet.monitoring.step_profile import PARTS, profile
from tercet.sampling.params import SamplingParams

STACKS = {"loop;read <b>": 0.25, "loop;write;encode": 0.5, "engine": 0.25}


def test_times_go_to_what_was_done_since_the_last_look() -> None:
    moments = iter([10.0, 11.0, 13.0, 13.5])
    times = StepTimes(lambda: next(moments))
    times.begin()
    for part in ("planning", "running", "planning"):
        times.add(part)
    assert times.seconds == {**dict.fromkeys(STEP_PARTS, 0.0), "planning": 1.5, "running": 2.0}


async def _profiled() -> tuple[dict[str, object], int]:
    llm = LLM(threads=1)
    engine = AsyncEngine(llm.engine)
    await engine.start()
    try:
        asked = asyncio.ensure_future(profile({"tiny": engine}, 1.5))  # 20 tokens fit into it on any machine
        await asyncio.sleep(0.01)
        with pytest.raises(OverloadedError, match="another profile runs"):
            await profile({}, 0.1)
        params = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)
        stream = engine.submit(Request([1, 2, 3], params, max_new_tokens=20))
        tokens = 0
        async for event in stream:
            tokens += len(event.token_ids)
        return await asked, tokens
    finally:
        await engine.stop()
        llm.close()


def test_the_parts_of_a_profile_are_the_time_of_the_engine() -> None:
    usual = sys.getswitchinterval()
    found, tokens = asyncio.run(_profiled())
    assert sys.getswitchinterval() == usual
    assert found["generated_tokens"] == tokens == 20
    assert (found["prompt_tokens"], found["steps"]) == (3, 20)
    parts = {part["name"]: part for part in found["parts"]}
    assert set(parts) == {*PARTS, "waiting", "event loop"}
    engine = sum(part["seconds"] for name, part in parts.items() if name != "event loop")
    assert engine == pytest.approx(found["seconds"])
    assert all(parts[name]["seconds"] > 0 for name in PARTS)
    each = parts["output head"]["microseconds_per_token"]
    assert each == pytest.approx(1e6 * parts["output head"]["seconds"] / 20)
    assert parts["attention"]["seconds"] == pytest.approx(
        found["operations"]["attention"] + found["operations"]["rotation"]
    )
    stacks = found["stacks"]
    own = sum(seconds for frames, seconds in stacks.items() if frames.startswith("engine of tiny;"))
    assert own == pytest.approx(sum(parts[name]["seconds"] for name in PARTS))
    loop = sum(seconds for frames, seconds in stacks.items() if frames.startswith("event loop"))
    assert loop == pytest.approx(parts["event loop"]["seconds"])


def test_threads_that_compute_are_seen_and_those_that_wait_are_not() -> None:
    ends = threading.Event()

    def count() -> None:
        while not ends.is_set():
            sum(range(1000))

    threads = [
        threading.Thread(target=count, name="counts-1"),
        threading.Thread(target=ends.wait, name="waits"),
    ]
    sampler = StackSampler()
    for thread in threads:
        thread.start()
    sampler.start()
    time.sleep(0.2)
    sampler.stop()
    ends.set()
    for thread in threads:
        thread.join()
    stacks = sampler.stacks({})
    assert any(frames.startswith("counts;") and frames.endswith("count") for frames in stacks)
    assert not any(frames.startswith("waits") for frames in stacks)
    assert sampler.stacks({-1: ("loop", 2.0)})["loop"] == 2.0  # no sample of it, and yet it computed


def test_a_flame_graph_is_an_svg_with_boxes_as_wide_as_their_time() -> None:
    tree = ElementTree.fromstring(flame_graph(STACKS, "a <title>"))
    boxes = {}
    for group in tree.iter("{http://www.w3.org/2000/svg}g"):
        title, box = group.find("{*}title"), group.find("{*}rect")
        assert title is not None
        assert box is not None
        boxes[str(title.text).split(":")[0]] = float(box.attrib["width"])
    whole = boxes["all"]
    assert boxes["loop"] == pytest.approx(0.75 * whole, abs=0.02)
    assert boxes["encode"] == boxes["write"] == pytest.approx(0.5 * whole, abs=0.02)
    assert boxes["read <b>"] == pytest.approx(0.25 * whole, abs=0.02)
    assert ElementTree.fromstring(flame_graph({}, "nothing")) is not None


def test_other_forms_of_stacks(tmp_path: Path) -> None:
    assert folded(STACKS) == "engine 250000\nloop;read <b> 250000\nloop;write;encode 500000\n"
    content = json.loads(speedscope(STACKS, "t"))
    frames = [frame["name"] for frame in content["shared"]["frames"]]
    (one,) = content["profiles"]
    told = {
        ";".join(frames[index] for index in sample): weight
        for sample, weight in zip(one["samples"], one["weights"], strict=True)
    }
    assert told == STACKS
    assert one["endValue"] == sum(STACKS.values())
    for name in ("a.svg", "a.folded", "a.JSON"):
        write_flame_graph(tmp_path / name, STACKS, "t")
        assert (tmp_path / name).stat().st_size > 50
    with pytest.raises(ParameterError, match="ends in none of"):
        write_flame_graph(tmp_path / "a.png", STACKS, "t")
    with pytest.raises(StorageError):
        write_flame_graph(tmp_path / "none" / "a.svg", STACKS, "t")


def test_whom_to_ask_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="is an address like"):
        asked("ftp://x", "/profile", None, 1)
    with pytest.raises(ParameterError, match="cannot be read"):
        asked("http://127.0.0.1:9", "/profile", tmp_path / "none", 1)
    with pytest.raises(UnavailableError, match="does not answer"):
        asked("http://127.0.0.1:9", "/profile", None, 1)
