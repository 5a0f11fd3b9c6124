"""Bad networks of one's own, and what each must be refused with."""

from bad_input import network

# What is wrong with them is in wrong_networks.py.
NETWORKS = [
  network(
    'nowhere:X',
    "there is no module 'nowhere'; start the command in the directory "
    'where it is, or add that to PYTHONPATH',
  ),
  network(':X', 'give MODULE:ATTRIBUTE, such as my_network:MY_NETWORK'),
  network(
    'wrong_exit:X',
    'wrong_exit cannot be imported (SystemExit: 3); correct it; --debug '
    'shows more',
  ),
  network(
    'wrong_networks:NONE',
    "wrong_networks has no 'NONE'; its Architectures: RAISES, ...",
  ),
  network(
    'wrong_networks:NO_MODULE',
    "its module is <class 'flax.linen.module.Module'>; give a class that "
    'extends nn.Module',
  ),
  network(
    'wrong_networks:A_FUNCTION',
    'its module is <function ...>; give a class that extends nn.Module',
  ),
  network(
    'wrong_networks:OF_THE_PACKAGE',
    'its module is the ConvMixer of this package; name that network, or '
    'give a class that extends it',
  ),
  network(
    'wrong_networks:NO_MAPPING',
    'its fields are not a dict of names and Field(...); see '
    'docs/adding_a_network.md',
  ),
  network(
    'wrong_networks:NO_FIELDS',
    'its fields are not a dict of names and Field(...); see '
    'docs/adding_a_network.md',
  ),
  network(
    'wrong_networks:RESERVED_FIELD',
    "its field 'name' has a reserved name (that is the key of the "
    'network itself, and Flax has it too); call it otherwise',
  ),
  network(
    'wrong_networks:SURPLUS_FIELD',
    "Base has no attribute 'depth'; add it, such as 'depth: int'",
  ),
  network(
    'wrong_networks:WITHOUT_NUM_CLASSES',
    "WithoutNumClasses has no attribute 'num_classes'; add it, such as "
    "'num_classes: int'",
  ),
  network(
    'wrong_networks:NEEDS_DEPTH',
    "NeedsDepth needs 'depth', which is not among its fields; add it "
    'there, or give it a default',
  ),
  network(
    'wrong_networks:WITHOUT_CALL',
    'WithoutCall has no __call__; see docs/adding_a_network.md',
  ),
  network(
    'wrong_networks:WITHOUT_TRAIN',
    'WithoutTrain.__call__ has no argument train; define __call__(self, '
    'images, *, train)',
  ),
  network(
    'wrong_networks:RAISES',
    'Raises fails in init (RuntimeError: no such); correct it; --debug '
    'shows more',
  ),
  network(
    'wrong_networks:RAISES_IN_TRAINING',
    'RaisesInTraining fails in apply with train=True (KeyError: '
    "'train'); correct it; --debug shows more",
  ),
  network(
    'wrong_networks:RAISES_WHEN_CREATED',
    'the module cannot be created (RuntimeError: not today); correct it; '
    '--debug shows more',
  ),
  network(
    'wrong_networks:OTHER_OUTPUTS',
    "its head 'head' has 7 outputs, not num_classes = 10; give it that many",
  ),
  network(
    'wrong_networks:OTHER_LOGITS',
    'OtherLogits returns float32 [2, 2] with train=False; return float32 '
    '[B, num_classes], such as [2, 10]',
  ),
  network(
    'wrong_networks:HALF_LOGITS',
    'HalfLogits returns bfloat16 [2, 10] with train=False; return '
    'float32 [B, num_classes], such as [2, 10]',
  ),
  network(
    'wrong_networks:TWO_RESULTS',
    'TwoResults returns a tuple with train=False; return float32 [B, '
    'num_classes], such as [2, 10]',
  ),
  network(
    'wrong_networks:HALF_PARAMETERS',
    'params/head/bias is bfloat16; make it float32',
  ),
  network(
    'wrong_networks:COUNTS',
    "it has variables in 'cache', which a run does not keep; use params "
    'and batch_stats alone',
  ),
  network(
    'wrong_networks:NO_GATHER',
    'Base has no attribute gather, which a network with stacked blocks '
    "needs; add 'gather: GatherFn | None = None' and give it to create_block; "
    'see docs/adding_a_network.md',
  ),
  network(
    'wrong_networks:NO_STACK',
    "its stacked is ('blocks',): there is no such module 'blocks'; there are "
    'head',
  ),
  network(
    'wrong_networks:UNEVEN_STACK',
    "its parameters in 'head' are not stacked along a leading axis of the "
    'same length; use nn.scan, or leave it out of Architecture(stacked=)',
  ),
  network(
    'wrong_networks:NO_HEAD',
    "its head is 'classifier', and there is no module of this name; "
    'there are head; name the last dense layer so, or give '
    'Architecture(head=)',
  ),
  network(
    'wrong_networks:OF_ONE_BATCH',
    'OfOneBatch fails in apply to 4 images after init with 2 '
    '(ScopeParamShapeError: ...); correct it; --debug shows more',
  ),
  network(
    'wrong_networks:BAD_PICTURES',
    "its function pictures returns 'head': float32 [3, 10]; return a dict of "
    'names and arrays [N, k, k, C] or [depth, N, k, k, C], '
    'where C is 1, 3 or the channels of the images',
  ),
  network(
    'wrong_networks:RAISING_PICTURES',
    'its function pictures fails for the parameters of init (KeyError: '
    "'body'); correct it; --debug shows more",
  ),
  network(
    'wrong_networks:GATHER_FIELD',
    "its field 'gather' has a reserved name (it is what stacked blocks "
    'receive); call it otherwise',
  ),
  network(
    'wrong_networks:OTHER_ROLE',
    "its field 'width' has role 'speed'; give one of network, training, "
    'compute',
  ),
  network(
    'wrong_networks:GROUPS_NUMBER',
    "groups of its field 'width' is 3; give a string",
  ),
  network(
    'wrong_networks:GROUPS_OF_TEXT',
    "its field 'width' has groups and the default 'a'; give a whole number of "
    'at least 0',
  ),
]
