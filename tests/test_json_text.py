"""JSON that anyone may have written."""

import pytest

from convmixer_jax.json_text import parse_json


def test_json_is_parsed():
  assert parse_json('{"a": [1, {"b": null}]}') == {'a': [1, {'b': None}]}


@pytest.mark.parametrize(
  'text',
  [
    *('[' * depth + ']' * depth for depth in (60, 900, 10**5)),
    *('{"a":' * 60 + '1' + '}' * 60, '{', '', '[' + '9' * 5000 + ']'),
  ],
)
def test_other_texts_are_value_errors(text):
  with pytest.raises(ValueError):
    parse_json(text)
