"""Which engine a server has: its shard in the loop's thread, or several in threads of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rakit_ws._core import MOST_SHARDS, Engine, ShardedEngine
from rakit_ws.process import cores_allowed

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from rakit_ws._core import EngineSettings

AnyEngine = Engine | ShardedEngine

# So many cores are a loop's and a shard's, and threads between them would only cost.
_FEW_CORES: Final = 2


def new_engine(shards: int, **settings: Unpack[EngineSettings]) -> AnyEngine:
    """
    Make an engine of so many shards; 0: as many as the cores are good for. One is inline.

    Raises:
        UsageError: a setting that can't be so, or over 64 shards.
        OSError: no descriptor, or no thread.

    """
    count = shards or shards_for(cores_allowed())
    return Engine(**settings) if count == 1 else ShardedEngine(count, **settings)


def thread_count(shards: int) -> int:
    """Tell how many threads an engine of so many shards has; 0 as above."""
    count = shards or shards_for(cores_allowed())
    return 0 if count == 1 else count


def shards_for(cores: int) -> int:
    """Tell how many shards are good for so many cores: one inline up to two, else half of them."""
    return 1 if cores <= _FEW_CORES else min(cores // 2, MOST_SHARDS)


def shard_count(engine: AnyEngine) -> int:
    """Tell how many shards an engine has; 1 is inline."""
    return engine.shards if isinstance(engine, ShardedEngine) else 1


def stop(engine: AnyEngine) -> None:
    """End the threads of an engine that is not needed any more, if it has some."""
    if isinstance(engine, ShardedEngine):
        engine.stop()
