"""A tour with pictures: compress, listen, look at the codes, train a toy model on them and listen to its output.

python tour.py recording.flac folder

It takes some seconds. Lines with %% start cells: Jupyter (with jupytext) and most editors can open this file as a
notebook.
"""

# %% A recording, and a folder for pictures and sounds
import sys
from pathlib import Path

import matplotlib
import numpy as np
import soundfile
import torch
from torch import nn

import nac

matplotlib.use("agg")
from matplotlib import pyplot

recording, folder = sys.argv[1], Path(sys.argv[2])
folder.mkdir(exist_ok=True)
samples, rate = soundfile.read(recording, dtype="float32")
samples = samples.reshape(len(samples), -1).mean(axis=1)
seconds = len(samples) / rate

# %% Compress: a lower bitrate uses fewer codebooks
versions = {"original": samples}
for kbps in (1.5, 3, 6, 12):
    data = nac.encode(samples, rate, model="nac_24khz", kbps=kbps)
    back, _ = nac.decode(data)
    versions[f"{kbps} kbit-s"] = back[:, 0]
    print(f"{kbps:4} kbit/s: {len(data)} bytes, {len(samples) * 2 / len(data):.0f} times smaller than 16-bit WAV")
    if kbps == 3:
        (folder / "recording.nac").write_bytes(data)

# %% Listen
for name, sound in versions.items():
    soundfile.write(folder / f"{name}.wav", sound, rate)

# %% Look: spectrograms on a common scale
figure, rows = pyplot.subplots(len(versions), 1, figsize=(10, 2 * len(versions)), sharex=True)
for axes, (name, sound) in zip(rows, versions.items(), strict=True):
    axes.specgram(sound, NFFT=1024, Fs=rate, noverlap=768, cmap="magma", vmin=-140, vmax=-40)
    axes.set_title(name, loc="left", fontsize=9)
    axes.set_ylabel("Hz")
rows[-1].set_xlabel("seconds")
figure.savefig(folder / "spectrograms.png", dpi=80, bbox_inches="tight")

# %% The codes: one row per codebook, coarse to fine, one column per frame
(stream,) = nac.read_codes(folder / "recording.nac")
codes = np.stack(stream)
codec = nac.load("nac_24khz")
figure, (above, below) = pyplot.subplots(2, 1, figsize=(10, 5))
above.imshow(codes, aspect="auto", interpolation="none", extent=(0, seconds, len(codes) - 0.5, -0.5))
above.set(ylabel="codebook", xlabel="seconds", title="codes", yticks=range(len(codes)))
for number, row in enumerate(codes):
    counts = np.sort(np.bincount(row, minlength=codec.codebook_size))[::-1]
    below.plot(counts.cumsum() / counts.sum(), label=f"codebook {number}")
below.set(xscale="log", xlabel="most frequent entries", ylabel="share of all codes")
below.legend()
figure.tight_layout()
figure.savefig(folder / "codes.png", dpi=80)

# %% Train a toy model that predicts the next codes. With MusicGen's delay pattern, it needs one step per frame
torch.manual_seed(0)
torch.set_num_threads(1)  # more threads would not make such a small model faster
size, books = codec.codebook_size, len(codes)
steps = nac.delay(torch.from_numpy(codes).long(), fill=size)  # [codebooks, frames + codebooks - 1]


class Toy(nn.Module):
    """A recurrent network with an embedding and an output for each codebook."""

    def __init__(self, width: int = 96) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(size + 1, width) for _ in range(books))
        self.recurrent = nn.GRU(width, width, batch_first=True)
        self.out = nn.Linear(width, books * (size + 1))

    def forward(self, steps: torch.Tensor, state: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Predict from steps [batch, codebooks, n] the logits of the next ones, [batch, n, codebooks, entries]."""
        summed = torch.stack([embed(steps[:, book]) for book, embed in enumerate(self.embeddings)]).sum(0)
        hidden, state = self.recurrent(summed, state)
        return self.out(hidden).unflatten(-1, (books, size + 1)), state


model = Toy()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
losses = []
length = min(101, steps.shape[1])
for _ in range(40):
    start = int(torch.randint(steps.shape[1] - length + 1, ()))
    crop = steps[None, :, start : start + length]
    logits, _ = model(crop[..., :-1])
    loss = nn.functional.cross_entropy(logits.flatten(0, 2), crop[..., 1:].mT.flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
print(f"nats per code: {np.mean(losses[:5]):.2f} at first, {np.mean(losses[-5:]):.2f} in the end")
figure, axes = pyplot.subplots(figsize=(10, 3))
axes.plot(losses)
axes.set(xlabel="step", ylabel="nats per code")
figure.savefig(folder / "losses.png", dpi=80, bbox_inches="tight")

# %% Listen to its output: sampled codes, decoded
sampled, state = [steps[None, :, :1]], None
with torch.inference_mode():
    for _ in range(75 + books - 1):
        logits, state = model(sampled[-1], state)
        logits[..., size] = -torch.inf  # the fill value is not a code
        sampled.append(torch.distributions.Categorical(logits=logits[:, 0]).sample()[..., None])
generated = nac.undelay(torch.cat(sampled[1:], dim=-1)[0])
sound, sound_rate = nac.decode_codes(generated, model="nac_24khz")
soundfile.write(folder / "generated.wav", sound, sound_rate)
nac.write_codes(folder / "generated.nac", generated, model="nac_24khz", force=True)
print(f"generated: {len(sound) / sound_rate:g} s of {tuple(generated.shape)} codes")
