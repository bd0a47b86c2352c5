"""Makes the files in this folder with the reference packages' own writers; see README.md.

python make.py     # needs encodec 0.1.1 and descript-audio-codec 1.0.0
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dac
import encodec
import numpy as np
import torch
from audiotools import AudioSignal
from encodec.compress import compress_to_file

HERE = Path(__file__).parent


def random_codes(codebooks: int, frames: int, batch: int = 1) -> torch.Tensor:
    return torch.randint(1024, (batch, codebooks, frames))


def ecdc(name: str, samples: int, codebooks: int, scale: bool) -> dict[str, Any]:
    """What the package writes where its network gives random codes."""
    model = getattr(encodec.EncodecModel, name.replace("encodec", "encodec_model"))(pretrained=False)
    model.name = name
    segments = []

    def encode_segment(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        codes = random_codes(codebooks, model.encoder(x).shape[-1])
        segments.append((codes, torch.rand(1, 1) if scale else None))
        return segments[-1]

    model._encode_frame = encode_segment
    with (HERE / f"{name}-{samples}.ecdc").open("wb") as file:
        compress_to_file(model, torch.zeros(model.channels, samples), file, use_lm=False)
    arrays = {"codes": torch.cat([codes for codes, _ in segments], -1)[0].short().numpy()}
    if scale:
        arrays["scales"] = torch.cat([scale[0] for _, scale in segments]).numpy()
    return {f"{name}-{samples}.ecdc/{key}": array for key, array in arrays.items()}


def dac_file(name: str, model: Any, seconds: float, rate: int, channels: int, codebooks: int) -> dict[str, Any]:
    """The same; windows, lengths and loudness are the package's."""
    model.encode = lambda audio, n: (0, random_codes(n, model.encoder(audio).shape[-1], audio.shape[0]), 0, 0, 0)
    noise = 0.1 * torch.randn(1, channels, round(seconds * rate))
    made = model.compress(AudioSignal(noise, rate), win_duration=1.0, n_quantizers=codebooks)
    made.save(HERE / name)
    return {f"{name}/codes": made.codes.short().numpy()}


def main() -> None:
    torch.manual_seed(0)
    arrays: dict[str, Any] = {}
    arrays |= ecdc("encodec_24khz", 24000 + 77, 3, False)
    # Two segments of 149 and 1 frames, which is an overhang in .nac; then 150, 150 and 37.
    arrays |= ecdc("encodec_48khz", 47520 + 100, 2, True)
    arrays |= ecdc("encodec_48khz", 2 * 47520 + 11600, 4, True)
    small = dac.DAC(encoder_rates=[2, 4, 5, 8], decoder_rates=[8, 5, 4, 2], n_codebooks=12, sample_rate=16000)
    arrays |= dac_file("whole-16khz.dac", small, 0.7, 8000, 1, 12)
    arrays |= dac_file("windows-16khz.dac", small, 2.1, 22050, 2, 3)
    arrays |= dac_file("windows-44khz.dac", dac.DAC(), 1.5, 44100, 1, 9)
    np.savez_compressed(HERE / "codes.npz", **arrays)


main()
