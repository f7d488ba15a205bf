"""fastinit.stream and set_default_stream: in the keyed stream, a call without a Key draws one from its generator."""

import asyncio
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from cases import DRAWN, holds_in_a_fork, raw

import fastinit
from fastinit import Key, streams


@pytest.fixture(autouse=True)
def torch_stream_afterwards() -> Iterator[None]:
    yield
    fastinit.set_default_stream("torch")


def drawn_seed(generator: torch.Generator | None) -> int:
    """The next 64 bits of the generator, by torch."""
    return torch.empty((), dtype=torch.int64).random_(-(2**63), None, generator=generator).item() % 2**64


STRUCTURED = ["orthogonal_", "sparse_"]


def fill(name: str = "normal_", **arguments: object) -> bytes:
    if name.startswith("sparse"):
        arguments["sparsity"] = 0.3
    return raw(getattr(fastinit, name)(torch.empty(6, 4), **arguments))


def by_torch(seed: int) -> bytes:
    torch.manual_seed(seed)
    return raw(torch.nn.init.normal_(torch.empty(6, 4)))


@pytest.mark.parametrize("given", [True, False], ids=["generator given", "default generator"])
@pytest.mark.parametrize("name", DRAWN + STRUCTURED)
def test_each_call_takes_the_next_seed_of_the_generator(name: str, given: bool) -> None:
    generator = torch.Generator() if given else torch.default_generator
    arguments = {"generator": generator} if given else {}
    generator.manual_seed(7)
    with fastinit.stream("keyed"):
        filled = [fill(name, **arguments) for _ in range(3)]
    state = generator.get_state()
    generator.manual_seed(7)
    seeds = [drawn_seed(generator) for _ in range(3)]
    assert len(set(seeds)) == 3
    assert filled == [fill(name, generator=Key(seed)) for seed in seeds]
    assert state.equal(generator.get_state())  # a seed a call, and no more


@pytest.mark.parametrize("name", [name[:-1] for name in DRAWN + STRUCTURED if name != "trunc_normal_"])
def test_deprecated_aliases_take_it_too(name: str) -> None:
    torch.manual_seed(3)
    with fastinit.stream("keyed"), pytest.warns(FutureWarning):
        filled = fill(name)
    torch.manual_seed(3)
    assert filled == fill(name + "_", generator=Key(drawn_seed(None)))


def test_seeds_reach_every_bit() -> None:
    seeds = [drawn_seed(torch.Generator().manual_seed(n)) for n in range(64)]
    assert min(seeds) < 2**60 and max(seeds) > 2**63
    for n in (seeds.index(min(seeds)), seeds.index(max(seeds))):
        with fastinit.stream("keyed"):
            assert fill(generator=torch.Generator().manual_seed(n)) == fill(generator=Key(seeds[n]))


def test_a_generator_of_a_subclass_gives_the_same_seeds() -> None:
    class Derived(torch.Generator):
        pass

    with fastinit.stream("keyed"):
        filled = fill(generator=Derived().manual_seed(5))
    assert filled == fill(generator=Key(drawn_seed(torch.Generator().manual_seed(5))))


def test_a_key_is_the_same_in_both_streams_and_draws_nothing() -> None:
    expected = fill(generator=Key(4))
    state = torch.get_rng_state()
    for name in ("keyed", "torch"):
        with fastinit.stream(name):
            assert fill(generator=Key(4)) == expected
            assert fill(generator=Key(4).shard((6, 4), (0, 0))) == expected
    assert torch.get_rng_state().equal(state)


def test_every_call_draws_whatever_the_tensor() -> None:
    """So that the seeds of a model's parameters do not depend on which of them are on the meta device, say."""
    with fastinit.stream("keyed"):
        for tensor in (torch.empty(3, device="meta"), torch.empty(0), torch.empty(3)):
            generator, other = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
            assert fastinit.normal_(tensor, generator=generator) is tensor
            drawn_seed(other)
            assert generator.get_state().equal(other.get_state())


def test_blocks_nest_and_end_with_an_exception() -> None:
    assert fastinit.current_stream() == "torch"
    with fastinit.stream("keyed"):
        assert fastinit.current_stream() == "keyed"
        with fastinit.stream("torch"):
            assert fastinit.current_stream() == "torch"
            torch.manual_seed(2)
            filled = fill()
            assert filled == by_torch(2)
        assert fastinit.current_stream() == "keyed"
        with pytest.raises(ZeroDivisionError), fastinit.stream("torch"):
            raise ZeroDivisionError
        assert fastinit.current_stream() == "keyed"
    assert fastinit.current_stream() == "torch"


def test_the_default_holds_outside_of_blocks() -> None:
    assert fastinit.set_default_stream("keyed") is None
    assert fastinit.current_stream() == "keyed"
    with fastinit.stream("torch"):
        assert fastinit.current_stream() == "torch"
        fastinit.set_default_stream("torch")
        fastinit.set_default_stream("keyed")
        assert fastinit.current_stream() == "torch"
    torch.manual_seed(9)
    filled = fill()
    torch.manual_seed(9)
    assert filled == fill(generator=Key(drawn_seed(None)))
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(fastinit.current_stream).result() == "keyed"


def test_it_decorates_functions() -> None:
    @fastinit.stream("keyed")
    def inner() -> str:
        return fastinit.current_stream()

    assert [inner(), fastinit.current_stream(), inner()] == ["keyed", "torch", "keyed"]


def test_threads_have_their_own() -> None:
    together = Barrier(4)

    def use(name: str) -> list[str]:
        seen = [fastinit.current_stream()]
        for _ in range(50):
            with fastinit.stream(name):
                together.wait()
                seen.append(fastinit.current_stream())
        return [*seen, fastinit.current_stream()]

    with fastinit.stream("keyed"), ThreadPoolExecutor(4) as pool:
        for name, seen in zip(["keyed", "torch"] * 2, pool.map(use, ["keyed", "torch"] * 2), strict=True):
            assert seen == ["torch", *[name] * 50, "torch"]
        assert fastinit.current_stream() == "keyed"
    assert fastinit.current_stream() == "torch"


def test_a_fork_while_another_thread_enters_a_block() -> None:
    def claim() -> bool:
        with fastinit.stream("keyed"):
            return fastinit.current_stream() == "keyed"

    with streams._lock:  # as that thread would have it
        assert holds_in_a_fork(claim)


def test_asynchronous_tasks_have_their_own() -> None:
    async def use(name: str) -> set[str]:
        seen = set()
        with fastinit.stream(name):
            for _ in range(5):
                await asyncio.sleep(0)
                seen.add(fastinit.current_stream())
        return seen

    async def both() -> list[set[str]]:
        return await asyncio.gather(use("keyed"), use("torch"))

    assert asyncio.run(both()) == [{"keyed"}, {"torch"}]
    assert fastinit.current_stream() == "torch"


@pytest.mark.parametrize("choose", [fastinit.stream, fastinit.set_default_stream])
@pytest.mark.parametrize("name", ["philox", "Keyed", "", None, 1])
def test_a_wrong_name_says_what_is_allowed(choose: Callable[..., object], name: object) -> None:
    with pytest.raises(ValueError, match=r"name must be 'torch' or 'keyed', got "):
        choose(name)
    assert fastinit.current_stream() == "torch"


def test_a_wrong_generator_says_what_is_allowed() -> None:
    with fastinit.stream("keyed"), pytest.raises(TypeError, match=r"generator must be None.*Key, got 7"):
        fastinit.normal_(torch.empty(3), generator=7)


def test_constants_are_constants_in_both() -> None:
    with fastinit.stream("keyed"):
        assert (fastinit.constant_(torch.empty(3), 2.0) == 2.0).all()


def test_an_override_is_called_once_with_the_drawn_key() -> None:
    calls = []

    class Logged(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, args=(), kwargs=None):
            calls.append((function, (kwargs or {}).get("generator")))
            return super().__torch_function__(function, types, args, kwargs or {})

    tensor = torch.zeros(6, 4).as_subclass(Logged)
    calls.clear()
    generator = torch.Generator().manual_seed(1)
    with fastinit.stream("keyed"):
        fastinit.normal_(tensor, generator=generator)
    assert calls == [(fastinit.normal_, Key(drawn_seed(torch.Generator().manual_seed(1))))]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_compiled_code_takes_the_stream_in_force() -> None:
    def init(tensor: torch.Tensor) -> torch.Tensor:
        return fastinit.normal_(tensor * 2) + 1

    def seeded(function: Callable[[torch.Tensor], torch.Tensor]) -> list[bytes]:
        torch.manual_seed(8)
        return [raw(function(torch.zeros(6, 4))) for _ in range(2)]

    torch._dynamo.reset()
    compiled = torch.compile(init, backend="aot_eager")
    in_torch = seeded(init)
    assert seeded(compiled) == in_torch
    with fastinit.stream("keyed"):
        assert seeded(compiled) == seeded(init) != in_torch
    fastinit.set_default_stream("keyed")
    assert seeded(compiled) == seeded(init) != in_torch
    fastinit.set_default_stream("torch")
    assert seeded(compiled) == in_torch


def test_compiled_whole() -> None:
    torch._dynamo.reset()
    in_torch = torch.compile(lambda t: fastinit.normal_(t * 2) + 1, fullgraph=True, backend="aot_eager")
    with_a_key = torch.compile(
        lambda t: fastinit.normal_(t * 2, generator=Key(5)) + 1, fullgraph=True, backend="aot_eager"
    )
    in_torch(torch.zeros(6, 4))
    with fastinit.stream("keyed"):
        with_a_key(torch.zeros(6, 4))
    fastinit.set_default_stream("keyed")
    with_a_key(torch.zeros(6, 4))
    with pytest.raises(torch._dynamo.exc.Unsupported, match="can draw no key inside"):
        in_torch(torch.zeros(6, 4))


def test_no_warnings_in_ordinary_use() -> None:
    with warnings.catch_warnings(), fastinit.stream("keyed"):
        warnings.simplefilter("error")
        for name in DRAWN:
            fill(name)


@pytest.mark.gpu
def test_a_generator_of_another_device_gives_its_own_seeds() -> None:
    generator = torch.Generator("cuda").manual_seed(1)
    with fastinit.stream("keyed"):
        first, second = fill(generator=generator), fill(generator=generator)
    assert first != second
    generator.manual_seed(1)
    with fastinit.stream("keyed"):
        assert [fill(generator=generator), fill(generator=generator)] == [first, second]
