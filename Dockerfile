# The package with its commands, for CPU or for NVIDIA GPUs:
#
#   docker build --target cpu -t convmixer-jax .
#   docker build --target cuda -t convmixer-jax:cuda .
#   docker run --rm --shm-size=2g -v "$PWD:/work" convmixer-jax \
#     train --config=digits --workdir=runs/digits
#   docker run --rm --shm-size=2g --gpus=all -v "$PWD:/work" \
#     convmixer-jax:cuda train --config=cifar10 --workdir=runs/cifar10
#
# Where /work is a directory of the user's, add --user "$(id -u):$(id -g)".

FROM python:3.12-slim-bookworm AS cpu

# The C++ kernels are compiled at the first start.
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install --yes --no-install-recommends g++ \
  && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/convmixer-jax
COPY requirements.txt ./
RUN pip install --no-cache-dir --requirement requirements.txt

COPY pyproject.toml setup.py LICENSE ./
COPY configs ./configs
COPY convmixer_jax ./convmixer_jax
RUN pip install --no-cache-dir --no-deps .

# What is compiled stays in the image's user, or in any --user's /tmp.
RUN useradd --create-home --uid 1000 convmixer \
  && install --directory --owner=convmixer /work
USER 1000
WORKDIR /work

ENTRYPOINT ["convmixer"]
CMD ["--help"]


FROM cpu AS cuda

USER 0
# CUDA and cuDNN as wheels, for the JAX that is installed already.
RUN version="$(python -c 'import jax; print(jax.__version__)')" \
  && pip install --no-cache-dir "jax[cuda13]==${version}"
USER 1000


# What is built without --target.
FROM cpu
