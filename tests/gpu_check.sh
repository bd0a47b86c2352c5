#!/bin/bash
# On a machine with a CUDA device: what is tested only there, and how fast each model is, in less than eight minutes.
#
#     tests/gpu_check.sh [PYTHON]
#
# The output: the tests; the networks alone; a folder of clips each way, and decoded with --fast.
set -u
cd "$(dirname "$0")/.." || exit 2
python=${1:-python}
if ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; then
    echo "no GPU: there is no CUDA device here, or PyTorch does not find it" >&2
    exit 2
fi
"$python" -c 'import torch; print(torch.cuda.get_device_name(), "PyTorch", torch.__version__)'
# The limits add up to seven and a half minutes.
timeout 130 "$python" -m pytest -q tests/codecs/test_cuda.py
tests=$?
timeout 130 "$python" -m nac bench --random --device cuda --lengths 3,30
speeds=$?
PYTHONPATH=. timeout 190 "$python" benchmarks/gpu.py --limit 140
folder=$?
echo "exit statuses (124: out of time): tests $tests, networks $speeds, folder $folder"
[ $tests = 0 ] && [ $speeds = 0 ] && [ $folder = 0 ]
