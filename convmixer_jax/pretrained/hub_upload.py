"""Uploads files to a repository of the Hugging Face Hub, in one commit."""

import contextlib
import re
from collections.abc import Iterator, Mapping

import huggingface_hub
from huggingface_hub import errors

from convmixer_jax.errors import UserError, first_line
from convmixer_jax.pretrained.hub import without_log_of_retries

_KEPT = 'README.md'  # which its owner may have changed


def parse_repository(name: str) -> str:
  """Returns OWNER/NAME of what may begin with hf://.

  Raises:
    UserError: the hub does not take such a name.
  """
  repository = name.removeprefix('hf://')
  wrong = 'give OWNER/NAME, such as me/convmixer-flowers'
  if not re.fullmatch('[^/]+/[^/]+', repository):
    raise UserError(f'{name!r} is not a repository of the hub; {wrong}')
  try:
    huggingface_hub.utils.validate_repo_id(repository)
  except errors.HFValidationError as error:
    reason = first_line(error).removesuffix('.')
    raise UserError(
      f'the hub does not take the name {name!r} ({reason}); {wrong}'
    ) from error
  return repository


def require_token() -> None:
  """Raises UserError if nobody is logged in."""
  if huggingface_hub.get_token() is None:
    raise UserError(
      'the hub needs a token that may write; log in by `hf auth login`, or set '
      'HF_TOKEN (https://huggingface.co/settings/tokens)'
    )


def upload(
  files: Mapping[str, bytes], repository: str, *, private: bool, message: str
) -> tuple[str, list[str]]:
  """Makes a repository, unless it exists, and uploads all files in one commit.

  A README.md that is there stays as it is.

  Args:
    files: contents by name.
    repository: as OWNER/NAME.
    private: whether only its owner may see it.
    message: of the commit.

  Returns:
    The page of the repository, and the names of the files that were uploaded.

  Raises:
    UserError: the hub or the network refused, or a public repository exists and
      `private` is asked for. Nothing was uploaded then.
  """
  require_token()
  api = huggingface_hub.HfApi(library_name='convmixer_jax')
  with _one_line_errors(repository), without_log_of_retries():
    page = api.create_repo(repository, private=private or None, exist_ok=True)
    if private and not api.repo_info(repository).private:
      raise UserError(
        f'{page} exists and is public; make it private on its page, give '
        'another name, or leave out --private'
      )
    names = list(files)
    if _KEPT in files and api.file_exists(repository, _KEPT):
      names.remove(_KEPT)
    api.create_commit(
      repository,
      [huggingface_hub.CommitOperationAdd(name, files[name]) for name in names],
      commit_message=message,
    )
  return str(page), names


@contextlib.contextmanager
def _one_line_errors(repository: str) -> Iterator[None]:
  """Turns what the hub's library raises into UserError."""
  try:
    yield
  except UserError:
    raise
  except Exception as error:  # also of httpx or httpx2, its client, and hf_xet
    raise UserError(
      f'hf://{repository} cannot be written{_describe(error)}'
    ) from error


def _describe(error: BaseException) -> str:
  """Returns why, and what to do."""
  cause: BaseException | None = error
  while cause is not None:  # threads that upload raise errors from others
    if isinstance(cause, errors.HfHubHTTPError):
      return _describe_status(cause)
    cause = cause.__cause__
  if isinstance(error, errors.OfflineModeIsEnabled):
    return ': HF_HUB_OFFLINE is set; unset it, or give --output=DIR'
  reason = first_line(error.__cause__ or error) or type(error).__name__
  return (
    f': the hub cannot be reached ({reason}); try again where there is a '
    'network, or write the files by --output=DIR'
  )


def _describe_status(error: errors.HfHubHTTPError) -> str:
  status = error.response.status_code
  reason = ' '.join((error.server_message or first_line(error)).split())
  advice = 'try again later'
  if status == 401:
    advice = 'the token is not accepted; log in by `hf auth login`'
  elif status == 403:
    advice = (
      'the token may not write there; take one that may write '
      '(https://huggingface.co/settings/tokens), or another OWNER'
    )
  elif status < 500:
    advice = 'give another name, or look at the repository on the hub'
  return f' (status {status}: {reason}); {advice}'
