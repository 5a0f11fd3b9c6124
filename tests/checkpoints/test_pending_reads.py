"""Reads that are still running when another fails are waited for."""

import asyncio

import pytest

from convmixer_jax.checkpoints import pending_reads


def test_loop_waits_for_the_other_reads_before_it_is_closed():
  finished = []

  async def read():
    for _ in range(100):  # turns of the loop
      await asyncio.sleep(0)
    finished.append('whole')

  async def fail():
    raise ValueError('damaged')

  async def restore():
    await asyncio.gather(fail(), read())

  with pending_reads.awaited():
    loop = asyncio.new_event_loop()
  with pytest.raises(ValueError, match='damaged'):
    loop.run_until_complete(restore())
  assert finished == []
  loop.close()
  loop.close()  # as any loop, it may be closed twice
  assert finished == ['whole'] and loop.is_closed()


def test_event_loops_are_the_usual_ones_afterwards():
  before = asyncio.new_event_loop
  with pytest.raises(KeyError), pending_reads.awaited():
    raise KeyError
  assert asyncio.new_event_loop is before
