"""Times timm's training transform, for `benchmarks.input`; needs only timm.

Another Python runs this file by its path. Standard input has a line of JSON
with the image size and the lengths of the files, then the files, then lines
with the start and stop index of the files to transform. The answers are lines
of JSON: first the versions, then the seconds for each request.
"""

import io
import json
import platform
import sys
import time


def main() -> None:
  """Answers requests until standard input ends."""
  header = json.loads(sys.stdin.buffer.readline())
  files = [sys.stdin.buffer.read(length) for length in header['lengths']]
  try:
    import PIL
    import timm
    import torch
    import torchvision
    from PIL import Image
    from timm.data import create_transform
  except ImportError as error:
    print(json.dumps({'error': str(error)}), flush=True)
    return
  torch.set_num_threads(1)
  transform = create_transform(
    header['size'],
    is_training=True,
    auto_augment='rand-m9-mstd0.5-inc1',
    interpolation='random',
    use_prefetcher=True,  # leaves the normalisation to the device
  )
  modules = {
    'timm': timm,
    'torch': torch,
    'torchvision': torchvision,
    'pillow': PIL,
  }
  versions = {name: module.__version__ for name, module in modules.items()}
  versions['python'] = platform.python_version()
  print(json.dumps({'versions': versions}), flush=True)
  for line in sys.stdin.buffer:
    start, stop = map(int, line.split())
    wall, cpu = time.perf_counter(), time.process_time()
    for data in files[start:stop]:
      transform(Image.open(io.BytesIO(data)).convert('RGB'))
    seconds = {
      'cpu': time.process_time() - cpu,
      'wall': time.perf_counter() - wall,
    }
    print(json.dumps(seconds), flush=True)


if __name__ == '__main__':
  main()
