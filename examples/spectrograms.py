"""Draw spectrograms of several recordings on a common scale.

python spectrograms.py picture.png original.flac small.wav ...
"""

import sys
from pathlib import Path

import matplotlib
import numpy as np
import soundfile
import soxr

matplotlib.use("agg")
from matplotlib import pyplot

RATE, WINDOW, HOP = 24000, 1024, 240

picture, *paths = sys.argv[1:]
figure, rows = pyplot.subplots(len(paths), 1, figsize=(10, 2.4 * len(paths)), sharex=True, squeeze=False)
for axes, path in zip(rows[:, 0], paths, strict=True):
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mono = np.pad(soxr.resample(samples.mean(axis=1), rate, RATE), WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(mono, WINDOW)[::HOP] * np.hanning(WINDOW)
    level = 20 * np.log10(np.abs(np.fft.rfft(frames)) / (WINDOW / 4) + 1e-6)
    shape = (0, len(frames) * HOP / RATE, 0, RATE / 2000)
    image = axes.imshow(level.T, origin="lower", aspect="auto", extent=shape, vmin=-100, vmax=-10, cmap="magma")
    axes.set_ylabel("kHz")
    axes.set_title(Path(path).name, loc="left", fontsize=10)
rows[-1, 0].set_xlabel("seconds")
figure.colorbar(image, ax=rows[:, 0], label="dB of full scale")
figure.savefig(picture, dpi=100, bbox_inches="tight")
