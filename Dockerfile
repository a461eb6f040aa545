# Two images: `serve` scores, and loads the store; `export` trains, and makes bundles.
#
#     docker build -t longtrail-serve .                            [--build-arg LOCK=serve-gpu]
#     docker build -t longtrail-export --target export [--build-arg TORCH_INDEX_URL=...] .
#
# Everything is installed from wheels, so no compiler is needed and none is inside.

ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    NUMBA_CACHE_DIR=/tmp/numba \
    HOME=/tmp
RUN useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin longtrail
WORKDIR /app


FROM base AS export
RUN --mount=type=bind,source=locks,target=/locks \
    pip install --only-binary :all: --no-deps --require-hashes -r /locks/export.txt
# The usual build has CUDA inside and takes gigabytes; name an index of CPU builds to have one of those.
ARG TORCH_INDEX_URL=
RUN --mount=type=bind,source=locks,target=/locks \
    pip install ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} -r /locks/torch.txt
COPY store store
COPY export export
# What is made: mount both to keep it, with --user if they are not uid 10001's.
RUN install -d -o longtrail -g longtrail runs bundles
USER longtrail
CMD ["python", "-m", "export", "--help"]


FROM base AS serve
# serve-gpu: with CUDA and cuDNN, which take gigabytes
ARG LOCK=serve
RUN --mount=type=bind,source=locks,target=/locks \
    pip install --only-binary :all: --no-deps --require-hashes -r /locks/${LOCK}.txt \
    && { test "$LOCK" != serve-gpu || pip install --only-binary :all: "onnxruntime-gpu[cuda,cudnn]"; }
COPY store store
COPY service service
# Compile the kernels now. A machine with another processor compiles them again, when it starts.
RUN NUMBA_CACHE_DIR=/app/numba python -m store.kernels
# Bundles are mounted on /bundles; /store is for the embedded store, where no CTR_REDIS_URL is given.
RUN install -d -o longtrail -g longtrail /bundles /store
ENV CTR_HOST=0.0.0.0 \
    CTR_BUNDLES=/bundles \
    CTR_STORE_FOLDER=/store
USER longtrail
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:' + os.environ.get('CTR_PORT', '8000') + '/v2/health/ready', timeout=2)"]
# numba wants to write where it reads its cache, and the root file system may be read-only.
ENTRYPOINT ["sh", "-c", "mkdir -p \"$NUMBA_CACHE_DIR\" && cp -rn /app/numba/. \"$NUMBA_CACHE_DIR\"; exec \"$@\"", "sh"]
CMD ["python", "-m", "service"]
