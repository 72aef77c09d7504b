"""What a key may ask for, whatever route it comes by: the pool and the service ask who the caller is."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from tercet.errors import ForbiddenError, ModelNotFoundError
from tercet.security.identity import ANONYMOUS, LOCAL, Caller, calling
from tercet.service.pool import ModelPool
from tercet.service.request import GenerationRequest
from tercet.service.service import Service


class Adapters(set[str]):
    @property
    def names(self) -> list[str]:
        return sorted(self)


class Model:
    """As much of a `ServedModel` as the pool looks at; `submit` gives back what it was asked."""

    def __init__(self, name: str, adapters: set[str], base: str | None = None) -> None:
        self.name, self.base_name = name, base or name
        self.adapter = None if base is None else name
        self.llm = SimpleNamespace(adapters=Adapters(adapters))

    def under(self, adapter: str) -> Model:
        return Model(adapter, set(self.llm.adapters), base=self.name)

    async def submit(self, request: GenerationRequest) -> Any:
        return self.name, request


@pytest.fixture
def service() -> Service:
    service = Service()
    models: Any = {"one": Model("one", {"poet", "clerk"}), "two": Model("two", {"poet"})}
    service.pool._models = models
    service.state = "ready"
    return service


@pytest.fixture
def pool(service: Service) -> ModelPool:
    return service.pool


def caller(*models: str) -> Caller:
    return Caller(key_id="alice", models=frozenset(models))


def submitted(service: Service, **fields: Any) -> tuple[str, GenerationRequest]:
    answer: Any = asyncio.run(service.submit(GenerationRequest(prompt="x", **fields)))
    return answer  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("scope", "entries"),
    [
        (None, ["one", "clerk", "poet", "two", "poet"]),
        (("one",), ["one", "clerk", "poet"]),
        (("two",), ["two", "poet"]),
        (("clerk",), ["clerk"]),
        (("clerk", "two"), ["clerk", "two", "poet"]),
        (("other",), []),
    ],
)
def test_a_key_sees_the_models_of_its_scope(pool: ModelPool, scope: Any, entries: list[str]) -> None:
    with calling(LOCAL if scope is None else caller(*scope)):
        assert [entry.name for entry in pool.entries] == entries
        for name in ("one", "two", "clerk"):
            if name in entries:
                assert pool.get(name).name == name
            else:
                with pytest.raises(ForbiddenError):
                    pool.get(name)


def test_without_a_name_it_is_the_first_of_the_scope(pool: ModelPool) -> None:
    assert pool.get(None).name == "one"
    for name in ("two", "clerk"):
        with calling(caller(name)):
            assert pool.get(None).name == name
    with calling(caller("other")), pytest.raises(ForbiddenError, match="none of the models"):
        pool.get(None)


def test_whether_there_is_a_model_outside_the_scope_is_not_told(pool: ModelPool) -> None:
    with calling(caller("one")):
        words = []
        for name in ("two", "xyz"):
            with pytest.raises(ForbiddenError) as refused:
                pool.get(name)
            words.append(str(refused.value).replace(name, "NAME"))
        assert words[0] == words[1]
    with (
        calling(caller("one", "gone")),
        pytest.raises(ModelNotFoundError, match=r"there are one, clerk, poet$"),
    ):
        pool.get("gone")


def test_an_adapter_of_two_models_leads_to_the_first_alone(pool: ModelPool) -> None:
    """A scope of the second model is no way into the first by a name that both have."""
    with calling(caller("two")), pytest.raises(ForbiddenError):
        pool.get("poet")
    with calling(caller("poet")):
        assert pool.get("poet").base_name == "one"


@pytest.mark.parametrize(
    ("scope", "adapters", "is_good"),
    [
        ("one", {}, True),
        ("one", {"poet": 1.0}, True),
        ("clerk", None, True),
        ("clerk", {"clerk": 0.5}, True),
        ("clerk", {}, False),
        ("clerk", {"poet": 1.0}, False),
        ("clerk", {"clerk": 1.0, "poet": 1.0}, False),
    ],
)
def test_a_scope_of_an_adapter_is_not_the_model_nor_others(
    service: Service, scope: str, adapters: dict[str, float] | None, is_good: bool
) -> None:
    with calling(caller(scope)):
        if is_good:
            assert submitted(service, model=scope, adapters=adapters)[0] == scope
        else:
            with pytest.raises(ForbiddenError):
                submitted(service, model=scope, adapters=adapters)


def test_every_key_has_its_own_turn_and_its_own_caches(service: Service) -> None:
    requests = {}
    for who in (LOCAL, ANONYMOUS, Caller(key_id="alice"), Caller(key_id="bob")):
        with calling(who):
            requests[who.key_id] = submitted(service, cache_salt=b"mine")[1]
    assert [(one.tenant, one.cache_salt) for one in requests.values()] == [
        ("", b"mine"),
        ("anonymous", b"anonymous\0mine"),
        ("alice", b"alice\0mine"),
        ("bob", b"bob\0mine"),
    ]
    with calling(Caller(key_id="a")):  # a salt of its own choosing makes nobody another
        assert submitted(service, cache_salt=b"lice\0mine")[1].cache_salt != requests["alice"].cache_salt


def test_a_refusal_is_counted(service: Service) -> None:
    seen: list[Any] = []
    observer: Any = SimpleNamespace(refused=lambda model, request, error: seen.append((model, type(error))))
    service._observers.append(observer)
    with calling(caller("two")), pytest.raises(ForbiddenError):
        submitted(service, model="one")
    assert seen == [("", ForbiddenError)]
