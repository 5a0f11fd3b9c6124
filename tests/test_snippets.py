"""The Python of the pages does what they say, from the first to the last."""

import pytest
import snippets

# A reader of these has a run in runs/digits, and images.
WITH_A_RUN = ('README.md',)
IMAGES = 'import numpy\nimages = numpy.zeros((2, 8, 8, 3), numpy.uint8)'
PAGES = ('docs/python_api.md', 'docs/config_files.md')


@pytest.mark.slow
@pytest.mark.parametrize('page', PAGES)
def test_blocks_of_the_page_run_in_order(page, tmp_path):
  blocks = snippets.blocks_of(page)
  assert blocks
  snippets.run(blocks, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize('page', WITH_A_RUN)
def test_blocks_of_the_page_run_on_a_run(page, tmp_path, trained_run):
  (tmp_path / 'runs').mkdir()
  (tmp_path / 'runs' / 'digits').symlink_to(trained_run)
  blocks = snippets.blocks_of(page)
  assert blocks
  snippets.run([IMAGES, *blocks], tmp_path)
