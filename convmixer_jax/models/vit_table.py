"""Names and axes of a ViT's arrays in files: timm's and ours."""

from convmixer_jax.models.state_dict import Entry, Table, dense, norm

TABLE = Table(
  [
    Entry(('params', 'class_token'), 'cls_token'),
    Entry(('params', 'position_embedding'), 'pos_embed'),
    *dense(('patch_embedding', 'projection'), 'patch_embed.proj', 'patches'),
    *norm(('blocks', 'attention_norm'), 'blocks.I.norm1'),
    *dense(('blocks', 'attention', 'qkv'), 'blocks.I.attn.qkv'),
    *dense(('blocks', 'attention', 'projection'), 'blocks.I.attn.proj'),
    *norm(('blocks', 'mlp_norm'), 'blocks.I.norm2'),
    *dense(('blocks', 'mlp', 'expand'), 'blocks.I.mlp.fc1'),
    *dense(('blocks', 'mlp', 'contract'), 'blocks.I.mlp.fc2'),
    *norm(('norm',), 'norm'),
    *dense(('head',), 'head'),
  ],
  'ViT',
)
