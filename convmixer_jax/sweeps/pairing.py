"""Which runs of two rows belong together: those of one seed, and more."""

from collections.abc import Hashable, Sequence

from convmixer_jax.errors import UserError
from convmixer_jax.sweeps.results import RunResult


def pair(run: RunResult, keys: Sequence[str]) -> Hashable:
  """Returns what runs of two rows have in common that are compared."""
  return run.seed, *(repr(run.settings.get(key)) for key in keys)


def refuse_copies(
  groups: Sequence[Sequence[RunResult]], keys: Sequence[str]
) -> None:
  """Raises UserError if two runs of a row differ in nothing."""
  for group in groups:
    seen: dict[Hashable, str] = {}
    for run in group:
      if other := seen.get(pair(run, keys)):
        raise UserError(
          f'{other} and {run.name} have the same config and seed, so they are '
          'one experiment; leave one of them out'
        )
      seen[pair(run, keys)] = run.name


def pairing_keys(
  groups: Sequence[Sequence[RunResult]], keys: Sequence[str]
) -> list[str]:
  """Returns the keys that, with the seed, tell the runs of each row apart.

  Those that have the same values in all rows are taken first: a learning rate
  that was chosen for each row is not what its runs have in common with others.
  """

  def num_pairs(chosen):
    return sum(len({pair(run, chosen) for run in group}) for group in groups)

  chosen: list[str] = []
  for key in sorted(keys, key=lambda key: not is_shared(groups, key)):
    if num_pairs([*chosen, key]) > num_pairs(chosen):
      chosen.append(key)
  return chosen


def is_shared(groups: Sequence[Sequence[RunResult]], key: str) -> bool:
  """Whether the runs of all groups have the same values of a key."""
  found = [{repr(run.settings.get(key)) for run in group} for group in groups]
  return all(values == found[0] for values in found)
