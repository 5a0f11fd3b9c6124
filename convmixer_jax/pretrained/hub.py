"""Downloads weights from the Hugging Face Hub, through its own library.

So the cache, `HF_HOME`, `HF_TOKEN` and `HF_HUB_OFFLINE` work as usual.
"""

import contextlib
import pathlib
from collections.abc import Iterator

import huggingface_hub
from huggingface_hub import errors
from huggingface_hub.utils import logging as hub_logging

from convmixer_jax.errors import UserError, first_line
from convmixer_jax.pretrained.source import HubSource

_WEIGHTS = ('model.safetensors', 'pytorch_model.bin')  # the first that exists
CONFIG = 'config.json'
_PATIENCE = 3  # seconds, until the hub has to answer


def download(source: HubSource) -> str:
  """Returns the path of a repository's weights in the cache.

  Its config.json, if it has one, is beside them.

  Args:
    source: the repository.

  Raises:
    UserError: the hub or the network refused, or, offline, the cache does not
      have it.
  """
  repository, revision = source.repository, source.revision
  unreachable = None
  try:
    for name in _WEIGHTS:
      try:
        with without_log_of_retries():
          path = huggingface_hub.hf_hub_download(
            repository,
            name,
            revision=revision,
            local_files_only=unreachable is not None,
          )
      except errors.LocalEntryNotFoundError as error:
        unreachable = unreachable or error
      except errors.RemoteEntryNotFoundError:
        pass
      else:
        _download_config(repository, commit=pathlib.Path(path).parent.name)
        return path
  except errors.GatedRepoError as error:
    raise UserError(
      f'{source} is gated: ask for access on its page, then `hf auth login`'
    ) from error
  except errors.RepositoryNotFoundError as error:
    raise UserError(
      f'{source}: the hub has no such repository, or it is private and needs '
      '`hf auth login`'
    ) from error
  except errors.RevisionNotFoundError as error:
    raise UserError(
      f'{source}: {repository} has no revision {revision!r}'
    ) from error
  except (errors.HFValidationError, OSError) as error:
    reason = first_line(error) or type(error).__name__
    raise UserError(f'{source}: {reason}') from error
  if unreachable:
    raise UserError(
      f'{source} is not in the cache, and the hub cannot be reached or '
      'HF_HUB_OFFLINE is set; where there is a network: '
      f'hf download {repository}'
    ) from unreachable
  raise UserError(f'{source} has none of {", ".join(_WEIGHTS)}')


def is_available(source: HubSource) -> bool:
  """Returns whether a repository is in the cache, or the hub has it now.

  Where the hub does not answer within a few seconds, it has not.
  """
  repository, revision = source.repository, source.revision
  for name in _WEIGHTS:
    path = huggingface_hub.try_to_load_from_cache(
      repository, name, revision=revision
    )
    if isinstance(path, str):
      return True
  try:
    for name in _WEIGHTS:
      url = huggingface_hub.hf_hub_url(repository, name, revision=revision)
      with contextlib.suppress(errors.EntryNotFoundError):
        huggingface_hub.get_hf_file_metadata(url, timeout=_PATIENCE)
        return True
  except Exception:  # of the hub's library, httpx or the network
    return False
  return False


def _download_config(repository, commit):
  with contextlib.suppress(errors.EntryNotFoundError):  # it need not have one
    huggingface_hub.hf_hub_download(repository, CONFIG, revision=commit)


@contextlib.contextmanager
def without_log_of_retries() -> Iterator[None]:
  """Leaves out the hub library's warnings: the error says what failed.

  Not where HF_HUB_VERBOSITY asks for more than warnings.
  """
  level = hub_logging.get_verbosity()
  if level == hub_logging.WARNING:
    hub_logging.set_verbosity_error()
  try:
    yield
  finally:
    hub_logging.set_verbosity(level)
