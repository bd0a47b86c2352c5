"""Read the codes of any part of a .nac file as arrays, for training. Needs no network and no PyTorch.

python read_codes.py recording.nac
"""

import sys

import numpy as np

import nac

with nac.open(sys.argv[1]) as file:
    print(f"{file.header.model}, weights {file.header.fingerprint}: {file.seconds:.2f} s in {file.chunks} chunks")
    codes = file.codes(start=1.0, duration=0.5)

for number, stream in enumerate(codes):
    matrix = np.stack(stream)  # [codebooks, frames]: this model has one code per frame in every codebook
    print(f"stream {number}: {matrix.shape[0]} codebooks x {matrix.shape[1]} frames")
    print("  first frame:", *matrix[:, 0])
