#!/usr/bin/env bash
# Pin the newest versions that pyproject.toml allows. Needs uv on the PATH.
#
# torch and what its CUDA build brings stay out: that build differs by machine, so it has no hash
# here; locks/torch.txt pins its version. setuptools comes with torch.
set -euo pipefail
cd "$(dirname "$0")/.."
left_out=()
for package in torch triton setuptools cuda-bindings cuda-pathfinder cuda-toolkit nvidia-{cublas,cuda-cupti,cuda-nvrtc,cuda-runtime,cudnn-cu13,cufft,cufile,curand,cusolver,cusparse,cusparselt-cu13,nccl-cu13,nvjitlink,nvshmem-cu13,nvtx}; do
    left_out+=(--no-emit-package "$package")
done
for extra in serve serve-gpu export dev; do
    uv --quiet pip compile pyproject.toml --upgrade --extra "$extra" --universal --python-version 3.11 \
        --generate-hashes --no-header --no-annotate "${left_out[@]}" -o "locks/$extra.txt"
done
