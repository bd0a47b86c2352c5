#!/bin/bash
# On a machine with a CUDA device: what is tested only there, and how fast each model is, in some minutes.
#
#     tests/gpu_check.sh [PYTHON]
set -u
cd "$(dirname "$0")/.." || exit 2
python=${1:-python}
if ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    echo "there is no CUDA device here, or PyTorch does not find it" >&2
    exit 2
fi
"$python" -c 'import torch; print(torch.cuda.get_device_name(), "PyTorch", torch.__version__)'
timeout 180 "$python" -m pytest -q tests/codecs/test_cuda.py
tests=$?
timeout 240 "$python" -m nac bench --random --device cuda --lengths 3,30
speeds=$?
[ $tests = 0 ] && [ $speeds = 0 ]
