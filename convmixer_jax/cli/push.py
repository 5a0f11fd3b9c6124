r"""Uploads a trained network to the Hugging Face Hub, where timm loads it too.

  python -m convmixer_jax push SOURCE OWNER/NAME [--private] \
    [--license=apache-2.0] [--output=DIR] [--dry_run]

The repository gets model.safetensors with timm's names of tensors, config.json,
from which timm.create_model('hf-hub:OWNER/NAME', pretrained=True) creates the
network where timm has a name for it, and README.md, the model card, which says
how else to load it. A repository that does not exist is created, and a
README.md that is there is kept. All files are uploaded in one commit, with the
token of `hf auth login` or HF_TOKEN.

--output writes the files to a directory, and --dry_run shows what would be
uploaded; neither uploads. convmixer_jax.load('hf://OWNER/NAME') and every
command with a SOURCE load the repository, or the directory.
"""

from collections.abc import Sequence

from absl import flags

from convmixer_jax.cli import model_flag, output_files, output_flag
from convmixer_jax.cli.output_flag import OUTPUT
from convmixer_jax.errors import UserError

flags.adopt_module_key_flags(model_flag)  # so that --help shows it
_PRIVATE = flags.DEFINE_bool(
  'private', False, 'make a repository that only its owner sees'
)
_LICENSE = flags.DEFINE_string(
  'license',
  None,
  'license of the weights, as the hub names it (mit, apache-2.0, cc-by-4.0); '
  'default: none is stated',
)
flags.adopt_module_key_flags(output_flag)
_DRY_RUN = flags.DEFINE_bool(
  'dry_run', False, 'show the files and the model card; upload nothing'
)


def main(argv: Sequence[str]) -> None:
  """Uploads or writes the files of what the command line names."""
  if len(argv) != 3:
    raise UserError(
      f'{len(argv) - 1} arguments are given, not SOURCE and OWNER/NAME; such '
      'as: python -m convmixer_jax push runs/flowers me/convmixer-flowers'
    )
  _, source, name = argv

  from convmixer_jax.pretrained import hub_folder, hub_upload
  from convmixer_jax.pretrained.load import load

  repository = hub_upload.parse_repository(name)
  uploads = not _DRY_RUN.value and OUTPUT.value is None
  if uploads:
    hub_upload.require_token()
  trained = load(source, model_flag.MODEL.value, ema=model_flag.EMA.value)
  contents = hub_folder.make_files(trained, repository, _LICENSE.value)
  print(trained.loaded_line)
  _say_how_timm_loads(hub_folder.find_timm_model(trained), repository)
  if _DRY_RUN.value:
    print(f'Would be uploaded to hf://{repository}:')
    print(*output_files.size_lines(contents), sep='\n')
    print(f'{hub_folder.CARD}:\n')
    print(contents[hub_folder.CARD].decode(), end='')
  elif OUTPUT.value is not None:
    _write(contents, OUTPUT.value)
  else:
    page, uploaded = hub_upload.upload(
      contents,
      repository,
      private=_PRIVATE.value,
      message=f'Upload {trained.network} of convmixer_jax',
    )
    print(f'Uploaded to {page}:')
    sizes = output_files.size_lines({key: contents[key] for key in uploaded})
    print(*sizes, sep='\n')
    if hub_folder.CARD not in uploaded:
      print(f'Its {hub_folder.CARD} was kept as it is')


def _say_how_timm_loads(found, repository):
  if found is None:
    print('Note: timm does not have this network; convmixer_jax loads it')
  elif found.architecture is None:
    print(
      'Note: timm has no name for a model of this size; README.md says how its '
      'class loads the weights'
    )
  else:
    print(f"In timm: timm.create_model('hf-hub:{repository}', pretrained=True)")


def _write(contents, directory):
  from convmixer_jax import files

  with output_files.make_directory(directory) as output:
    with output_files.one_line_errors(output):
      for name, content in contents.items():
        files.write(output / name, content)
    described = output_files.describe_sizes(output, contents)
  print(described)
