"""The built-in family: an exact transform, windows that equal the whole, prefixes, and weights that load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from nac.codecs import mdct
from nac.codecs.base import Codebook, CodecSpec, Codes
from nac.errors import ModelError

SPEC = CodecSpec("nac_24khz", "mdct", 24000, 1, mdct.HOP, (Codebook(10),) * 16)


@pytest.fixture(scope="module")
def codec() -> mdct.MdctCodec:
    torch.manual_seed(0)
    net = mdct.MdctNet()
    with torch.no_grad():
        net.quantizer.codebooks.normal_(std=0.4)
        net.decoder.leave.weight.mul_(0.3)
    return mdct.MdctCodec(SPEC, net, torch.device("cpu"))


def test_transform_is_inverted_to_the_first_and_last_sample(codec: mdct.MdctCodec) -> None:
    audio = torch.randn(2, 1, 3 * mdct.HOP)
    back = codec.net.inverse(codec.net.transform(audio)[..., : mdct.HOP])
    torch.testing.assert_close(back, audio, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_windows_give_what_the_whole_gives(codec: mdct.MdctCodec) -> None:
    audio = 0.1 * torch.randn(1, 1, 900 * mdct.HOP)
    codes = codec.encode(audio)
    whole = torch.stack(codec.encode_frames(audio, 16))
    assert (torch.stack(codes.arrays) == whole).float().mean() > 0.999
    decoded = codec.decode(codes)
    torch.testing.assert_close(decoded, codec.decode_frames(codes.arrays, 0), atol=1e-5, rtol=0)

    start = 600
    first = codec.preroll(start)
    decoder = codec.decoder(start=start)
    later = Codes(tuple(array[:, first:] for array in codes.arrays))
    assert torch.equal(torch.cat([decoder.push(later), decoder.flush()], -1), decoded[..., start * mdct.HOP :])


@torch.inference_mode()
def test_every_prefix_and_every_length_decode(codec: mdct.MdctCodec) -> None:
    for length in (1, mdct.HOP, mdct.HOP + 1):
        codes = codec.encode(0.1 * torch.randn(1, 1, length))
        for count in (1, 7, 16):
            decoded = codec.decode(codes.prefix(count), length)
            assert decoded.shape == (1, 1, length)
            assert decoded.isfinite().all()


def test_noise_depends_on_the_position_only() -> None:
    noise = mdct.position_noise(0, 200)
    assert torch.equal(mdct.position_noise(150, 50), noise[150:])
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02
    assert abs((noise[1:] * noise[:-1]).mean()) < 0.02


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="weights of nac_24khz"):
        mdct.load(SPEC, tmp_path / "x.safetensors", torch.device("cpu"))


def test_training_runs_from_nothing_to_weights_and_resumes(tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    script = Path(__file__).parents[1] / "examples" / "train" / "run.py"
    for steps in ("2", "4"):
        command = [sys.executable, str(script), "--work", str(tmp_path), "--smoke", "--steps", steps]
        subprocess.run(command, check=True, timeout=300)
    codec = mdct.load(SPEC, tmp_path / "nac_24khz.safetensors", torch.device("cpu"))
    assert codec.encode(torch.zeros(1, 1, 1000)).frames(SPEC) == 4
    assert (tmp_path / "held.csv").read_text().count("\n") == 4  # header, start, two checkpoints
