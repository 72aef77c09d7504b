"""What the service counts equals what its responses say, under the names that dashboards know."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from random_adapters import random_adapter, write_adapter
from tercet import SamplingParams
from tercet.engine.memory import measure_memory
from tercet.engine.result import GenerationResult
from tercet.errors import DeadlineError, ParameterError, TercetError, UnavailableError
from tercet.monitoring.catalogue import CATALOGUE, token_buckets
from tercet.monitoring.metrics import Histogram, ServiceMetrics
from tercet.security.counts import SecurityCounts
from tercet.service.request import GenerationRequest
from tercet.service.service import Service
from tercet.service.settings import ServiceSettings
from tiny_models import TINY_CONFIG

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]
GREEDY = SamplingParams(temperature=0, ignore_eos=True, max_tokens=9)


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 30))


def settings(path: Path, **changes: Any) -> ServiceSettings:
    return ServiceSettings(models={"tiny": str(path)}, llm={"threads": 1}, **changes)


def asked(prompt: Any = "Once upon a time", **more: Any) -> GenerationRequest:
    return GenerationRequest(prompt=prompt, params=more.pop("params", GREEDY), **more)


def sampled(service: Service) -> Samples:
    return {(name, tuple(sorted(labels.items()))): value for name, labels, value in service.metrics.samples()}


def value(samples: Samples, name: str, **labels: str) -> float:
    """The value of one series; of a model's, `engine` need not be named."""
    wanted = set(labels.items())
    found = [value for (one, own), value in samples.items() if one == name and wanted <= set(own)]
    (only,) = found
    return only


def tiny(samples: Samples, name: str, **labels: str) -> float:
    return value(samples, name, model_name="tiny", **labels)


def test_endpoint_pickers_learn_which_adapters_are_in_use(tiny_model_file: Path, tmp_path: Path) -> None:
    """The third gauge of the Gateway API's inference extension; the other two are vLLM's, too."""
    write_adapter(tmp_path / "pirate", random_adapter(TINY_CONFIG, seed=1))
    options = {"threads": 1, "adapters": {"pirate": tmp_path / "pirate"}}

    def told(service: Service) -> list[str]:
        (labels,) = [dict(own) for name, own in sampled(service) if name == "vllm:lora_requests_info"]
        return [labels[name] for name in ("max_lora", "running_lora_adapters", "waiting_lora_adapters")]

    async def work() -> None:
        bounds = ServiceSettings(models={"tiny": str(tiny_model_file)}, llm=options, max_concurrent=1)
        async with Service(bounds) as service:
            assert told(service) == ["1", "", ""]
            long = SamplingParams(temperature=0, ignore_eos=True, max_tokens=50)
            chosen = {"pirate": 1.0}
            asked_for = [await service.submit(asked(params=long, adapters=chosen)) for _ in range(40)]
            await asked_for[0].__anext__()
            assert told(service) == ["1", "pirate", "pirate"]
            for generation in asked_for:
                await generation.result()
            assert told(service) == ["1", "", ""]

    run(work())


def test_counters_equal_the_sums_of_what_the_responses_say(tiny_model_file: Path) -> None:
    async def work() -> None:
        async with Service(settings(tiny_model_file)) as service:
            results: list[GenerationResult] = []
            for prompt in ("Once upon a time there was", "Once upon a time there was", "A dog", [5]):
                generations = [await service.submit(asked(prompt)) for _ in range(3)]
                results += await asyncio.gather(*(one.result() for one in generations))
            samples = sampled(service)
            num_tokens = sum(one.generated_tokens for one in results)
            cached = sum(one.cached_tokens for one in results)
            computed = sum(one.prompt_tokens for one in results) - cached
            assert tiny(samples, "vllm:generation_tokens_total") == num_tokens == 12 * 9
            assert tiny(samples, "vllm:prompt_tokens_total") == computed + cached
            assert tiny(samples, "vllm:prompt_tokens_cached_total") == cached
            assert value(samples, "llamacpp:tokens_predicted_total") == num_tokens
            assert value(samples, "llamacpp:prompt_tokens_total") == computed
            assert value(samples, "llamacpp:prompt_tokens_cached_total") == cached
            longest = max(one.prompt_tokens + one.generated_tokens for one in results)
            assert value(samples, "llamacpp:n_tokens_max") == longest
            assert 1 < value(samples, "llamacpp:n_busy_slots_per_decode") <= 3
            timings = [one.metadata["timings"] for one in results]
            for name, histogram in (
                ("queue_seconds", "request_queue_time_seconds"),
                ("prefill_seconds", "request_prefill_time_seconds"),
                ("decode_seconds", "request_decode_time_seconds"),
            ):
                total = tiny(samples, f"vllm:{histogram}_sum")
                assert total == pytest.approx(sum(one[name] for one in timings)), name
                assert tiny(samples, f"vllm:{histogram}_count") == 12
            for name, histogram in (
                ("generation_time_seconds", "e2e_request_latency_seconds"),
                ("prompt_tokens", "request_prompt_tokens"),
                ("generated_tokens", "request_generation_tokens"),
            ):
                total = sum(getattr(one, name) for one in results)
                assert tiny(samples, f"vllm:{histogram}_sum") == pytest.approx(total)
            # llama.cpp: the first token of an answer costs no step of its own.
            decode = sum(one["decode_seconds"] for one in timings)
            assert value(samples, "llamacpp:predicted_tokens_seconds") == pytest.approx(12 * 8 / decode)
            assert value(samples, "llamacpp:tokens_predicted_seconds_total") == pytest.approx(decode)
            summary = service.metrics.summary()
            assert summary["total_requests"] == summary["successful_requests"] == 12
            assert summary["success_rate"] == 1.0
            total = sum(one.generation_time_seconds for one in results)
            assert summary["average_generation_time"] == pytest.approx(total / 12)
            assert summary["average_tokens_per_second"] == pytest.approx(num_tokens / total)
            assert summary["total_tokens_generated"] == num_tokens

    run(work())


def test_first_token_and_gaps_add_up_to_the_time_of_the_last_piece(tiny_model_file: Path) -> None:
    async def work() -> None:
        async with Service(settings(tiny_model_file)) as service:
            generation = await service.submit(asked())
            times = [event.at async for event in generation]
            samples = sampled(service)
            first = tiny(samples, "vllm:time_to_first_token_seconds_sum")
            assert first == pytest.approx(times[0] - generation.arrived_at)
            gaps = tiny(samples, "vllm:inter_token_latency_seconds_sum")
            assert gaps == pytest.approx(times[-1] - times[0])
            assert tiny(samples, "vllm:inter_token_latency_seconds_count") == len(times) - 1
            result = await generation.result()
            per_token = (result.generation_time_seconds - result.time_to_first_token_seconds) / 8
            name = "vllm:request_time_per_output_token_seconds_sum"
            assert tiny(samples, name) == pytest.approx(per_token)

    run(work())


def test_every_request_is_accounted_for_however_it_ends(tiny_model_file: Path) -> None:
    async def work() -> None:
        async with Service(settings(tiny_model_file, max_prompt_tokens=20)) as service:
            await (await service.submit(asked())).result()
            cancelled = await service.submit(asked())
            await cancelled.cancel()
            late = await service.submit(asked(timeout_seconds=1e-6))
            with pytest.raises(DeadlineError):
                await late.result()
            for prompt, model in (([0] * 21, None), ([-1], None), ("a", "none")):
                with pytest.raises(TercetError):
                    await service.submit(asked(prompt, model=model))
            running = await service.submit(asked())
            samples = sampled(service)
            assert tiny(samples, "tercet_requests_total") == 6
            assert tiny(samples, "tercet_requests_succeeded_total") == 1
            assert tiny(samples, "tercet_requests_cancelled_total") == 1
            assert tiny(samples, "tercet_requests_in_flight") == 1
            kinds = {"deadline": 1, "context_length": 1, "parameter": 1, "overloaded": 0, "error": 0}
            for kind, count in kinds.items():
                assert tiny(samples, "tercet_requests_failed_total", kind=kind) == count
            unknown = value(samples, "tercet_requests_failed_total", model_name="", kind="model_not_found")
            assert unknown == 1
            reasons = {"stop": 0, "length": 1, "abort": 1, "error": 1}
            for reason, count in reasons.items():
                assert tiny(samples, "vllm:request_success_total", finished_reason=reason) == count
            await running.result()

    run(work())


def security_counts() -> SecurityCounts:
    """What a server counts besides."""
    counts = SecurityCounts(time.monotonic)
    counts.configuration = {"profile": "strict", "max_choices": 4, "max_input_length": None}
    counts.content["redacted", "secret"] += 1
    return counts


def test_the_text_has_every_metric_of_the_catalogue_with_its_type(tiny_model_file: Path) -> None:
    async def work() -> None:
        async with Service(settings(tiny_model_file)) as service:
            await (await service.submit(asked())).result()
            service.metrics.count_http(200)
            service.metrics.security = security_counts()
            body, content_type = service.metrics.render()
            text = body.decode()
            assert content_type.startswith("text/plain; version=")
            for spec in CATALOGUE:
                assert f"# HELP {spec.name} " in text
                assert f"# TYPE {spec.name} {spec.kind}\n" in text
                assert re.search(rf"^{re.escape(spec.name)}(_bucket)?[ {{]", text, flags=re.M), spec.name
            assert "_created" not in text
            families = {one.name: one for one in text_string_to_metric_families(text)}
            parsed = {sample.name: sample.value for one in families.values() for sample in one.samples}
            rows = {name: number for name, _, number in service.metrics.samples()}
            assert parsed["llamacpp:tokens_predicted_total"] == rows["llamacpp:tokens_predicted_total"] == 9
            first = next(
                one for one in families["vllm:time_to_first_token_seconds"].samples if "bucket" in one.name
            )
            assert first.labels == {"model_name": "tiny", "engine": "0", "le": "0.001"}

    run(work())


def test_buckets_are_those_of_vllm() -> None:
    buckets = {spec.name: spec.buckets for spec in CATALOGUE}
    assert buckets["vllm:e2e_request_latency_seconds"][-1] == 7680
    assert len(buckets["vllm:time_to_first_token_seconds"]) == 22
    assert len(buckets["vllm:inter_token_latency_seconds"]) == 19
    assert buckets["vllm:iteration_tokens_total"][:3] == (1, 8, 16)
    assert token_buckets(100) == (1, 2, 5, 10, 20, 50, 100)
    assert token_buckets(64) == (1, 2, 5, 10, 20, 50)
    histogram = Histogram((1, 2))
    for number in (0.5, 1, 1.5, 9):
        histogram.observe(number)
    assert histogram.cumulative() == [("1", 2), ("2", 3), ("+Inf", 4)]


def test_nothing_that_a_client_sends_becomes_a_label(tiny_model_file: Path) -> None:
    async def work() -> None:
        async with Service(settings(tiny_model_file)) as service:
            await (await service.submit(asked())).result()
            service.metrics.count_http(404)
            before = set(sampled(service))
            for number in range(1_000):
                request = asked(id=f"id-{number}", tenant=f"t{number}", metadata={"user": number})
                if number % 2:
                    with pytest.raises(TercetError):
                        await service.submit(asked(model=f"model-{number}"))
                elif number % 100 == 0:
                    await (await service.submit(request)).result()
                else:
                    with pytest.raises(ParameterError):
                        await service.submit(asked([10**6 + number]))
                service.metrics.count_http(404)
                service.metrics.count_unknown_fields()
            assert set(sampled(service)) == before

    run(work())


def test_memory_is_measured(tiny_model_file: Path) -> None:
    async def work() -> None:
        async with Service(settings(tiny_model_file)) as service:
            shown = value(sampled(service), "process_resident_memory_bytes")
            measured = measure_memory(tiny_model_file, 0).resident_bytes
            assert measured is not None
            assert shown == pytest.approx(measured, rel=0.1)
            assert service.metrics.summary()["resident_memory_bytes"] == pytest.approx(measured, rel=0.1)

    run(work())


def test_a_summary_of_nothing_has_no_figures() -> None:
    summary = ServiceMetrics().summary()
    assert summary["total_requests"] == 0
    for name in ("success_rate", "average_generation_time", "average_tokens_per_second"):
        assert summary[name] is None


# Health ----------------------------------------------------------------------------------------------


def test_a_report_has_a_token_generated(tiny_model_file: Path) -> None:
    async def work() -> None:
        service = Service(settings(tiny_model_file))
        assert service.health.problem() == "loading"
        assert (await service.health.report())["status"] == "loading"
        async with service:
            steps = service.pool.get().engine.stats().steps
            report = await service.health.report()
            assert (report["status"], report["problem"]) == ("healthy", None)
            assert service.pool.get().engine.stats().steps > steps
            assert 0 < report["response_time_ms"] < 5_000
            assert (report["model_loaded"], report["tokenizer_loaded"]) == (True, True)
            assert report["quantization"] == "two_bit"
            assert report["max_concurrent_requests"] == 10
            assert report["metrics"]["total_requests"] == 0  # a probe is nobody's request
            service.begin_drain()
            assert (await service.health.report())["status"] == "draining"

    run(work())


def test_an_engine_that_does_not_move_is_no_health(tiny_model_file: Path) -> None:
    async def work() -> None:
        async with Service(settings(tiny_model_file, stuck_after_seconds=0.2)) as service:
            engine = service.pool.get().engine

            def hang() -> bool:
                import time

                time.sleep(0.7)
                return False

            step, engine.engine.step = engine.engine.step, hang  # type: ignore[method-assign]
            generation = await service.submit(asked())
            await asyncio.sleep(0.4)
            assert re.match(r"the engine of tiny has not moved for \d", service.health.problem() or "")
            assert (await service.health.report())["status"] == "unhealthy"
            engine.engine.step = step  # type: ignore[method-assign]
            await generation.result()
            assert service.health.problem() is None

    run(work())


def test_an_engine_that_has_died_is_no_health(tiny_model_file: Path) -> None:
    async def work() -> None:
        async with Service(settings(tiny_model_file)) as service:
            await service.supervisor.stop()  # it would have the engine running again
            engine = service.pool.get().engine

            def die() -> bool:
                if engine.num_waiting:
                    raise SystemError("a bug")
                return False

            engine.engine.step = die  # type: ignore[method-assign]
            with pytest.raises(UnavailableError, match="the engine has stopped"):
                await (await service.submit(asked())).result()
            assert "SystemError" in (service.health.problem() or "")
            assert (await service.health.report())["status"] == "unhealthy"
            failed = value(sampled(service), "tercet_requests_failed_total", model_name="tiny", kind="error")
            assert failed == 1

    run(work())
