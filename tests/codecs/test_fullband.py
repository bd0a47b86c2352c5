"""The full-band family: exact transforms, levels that hold, windows that equal the whole, and training."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from nac.codecs import fullband, fullband_torch, mdct
from nac.codecs.base import Codes
from nac.codecs.fullband import BANDS, BINS, HOP, LINES
from nac.codecs.registry import MODELS
from nac.codecs.windows import Plan
from nac.errors import ModelError
from nac.spec import Codebook, CodecSpec

SPEC = CodecSpec("nac_48khz", "fullband", 48000, 1, HOP, (Codebook(10),) * 16)


@pytest.fixture(scope="module")
def net() -> fullband_torch.FullbandNet:
    torch.manual_seed(0)
    net = fullband_torch.FullbandNet()
    with torch.no_grad():
        net.quantizer.codebooks.normal_(std=0.4)
    return net


@pytest.fixture(scope="module")
def codec(net: fullband_torch.FullbandNet) -> mdct.MdctCodec:
    tensors = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    return mdct.MdctCodec(SPEC, fullband.Network(tensors), tensors)


def noise(frames: int, rows: int = 1) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, 1, frames * HOP)).astype(np.float32) * 0.1


def low(frames: int) -> torch.Tensor:
    """Noise below 10 kHz, faded in and out: [1, 1, frames * HOP]."""
    spectrum = torch.fft.rfft(torch.randn(1, 1, frames * HOP))
    spectrum[..., spectrum.shape[-1] * 10 // 24 :] = 0
    return torch.fft.irfft(spectrum) * torch.hann_window(frames * HOP)


@torch.inference_mode()
def test_transform_is_inverted_to_the_first_and_last_sample(net: fullband_torch.FullbandNet) -> None:
    audio = low(20) + 0.1 * torch.sin(torch.arange(20 * HOP) / 30)  # loud right after the start
    back = net.inverse(net.transform(audio)[..., :BINS])
    torch.testing.assert_close(back, audio[:, 0], atol=1e-3, rtol=0)


@torch.inference_mode()
def test_long_transform_is_inverted(net: fullband_torch.FullbandNet) -> None:
    audio = low(20)
    back = net.long_inverse(net.long_transform(audio))
    torch.testing.assert_close(back, audio[:, 0], atol=1e-4, rtol=0)


@torch.inference_mode()
def test_short_transform_is_inverted(net: fullband_torch.FullbandNet) -> None:
    audio = low(20)[:, 0]
    blocks = torch.nn.functional.pad(audio, (80, 80)).unfold(-1, 320, 160)
    torch.testing.assert_close(net.short_inverse(blocks @ net.short), audio, atol=1e-3, rtol=0)


@torch.inference_mode()
def test_shapes_of_any_size_come_out_at_their_levels(net: fullband_torch.FullbandNet) -> None:
    levels = torch.linspace(-8, 2, len(BANDS)).expand(1, 5, -1)
    shape = torch.randn(1, 5, 2 * LINES) * torch.tensor([1, 2, 5, 10, 100])[:, None]
    shape[:, 0, ::3] = 0
    lines = net.tonal(shape, levels)
    power = lines.square().sum(-2) @ net.long_average
    assert (10 * (0.5 * power.log() - levels).abs() / np.log(10)).max() < 1.5  # dB


@pytest.mark.parametrize("frequency", [75, 975, 15000])  # whose phase is the same in every frame
def test_a_pure_tone_has_no_other_sound_in_either_network_and_in_any_part(
    net: fullband_torch.FullbandNet, frequency: int
) -> None:
    frames, start = 600, 511
    sine = (0.3 * np.sin(2 * np.pi * frequency / 48000 * np.arange(frames * HOP) + 1)).astype(np.float32)
    *_, numbers = net.analyse(torch.from_numpy(sine)[None, None])
    toned = fullband_torch.FullbandNet()
    toned.load_state_dict(net.state_dict())
    toned.quantizer.codebooks[0, 5] = torch.nn.functional.pad(numbers[0, 300], (len(net.encoder.linear.bias), 0))
    tensors = {name: tensor.numpy() for name, tensor in toned.state_dict().items()}
    codec = mdct.MdctCodec(SPEC, fullband.Network(tensors), tensors)
    other = fullband_torch.TorchCodec(SPEC, toned, torch.device("cpu"))

    codes = codec.encode(sine[None, None], 1)
    assert np.all(codes.arrays[0][0, 8:-8] == 5)
    assert torch.all(other.encode(torch.from_numpy(sine)[None, None], 1).arrays[0][0, 8:-8] == 5)
    same = Codes(tuple(torch.from_numpy(array) for array in codes.arrays))
    inside = slice(10 * HOP, -10 * HOP)
    whole = codec.decode(codes)
    for decoded in (whole, other.decode(same).numpy()):
        np.testing.assert_allclose(decoded[0, 0, inside], sine[inside], atol=1e-3)
    decoder = codec.decoder(start=start)
    part = decoder.push(Codes(tuple(array[:, codec.preroll(start) :] for array in codes.arrays)))
    part = np.concatenate([part, decoder.flush()], -1)
    assert np.array_equal(part, whole[..., start * HOP :])


def test_bands_and_bins_fit_together() -> None:
    constants = fullband.constants()
    for name, middles, at in (("spread", len(BANDS), BINS), ("long_spread", len(BANDS), LINES)):
        assert constants[name].shape == (middles, at)
        np.testing.assert_allclose(constants[name].sum(axis=0), 1, atol=1e-6)
    for name in ("average", "long_average"):
        np.testing.assert_allclose(constants[name].sum(axis=0), 1, atol=1e-5)
    assert sum(fullband.NOISE_BANDS) == fullband.SHORT_BINS


def test_windows_give_what_the_whole_gives(codec: mdct.MdctCodec) -> None:
    audio = noise(900)
    codes = codec.encode(audio)
    whole = codec.encode_frames(audio, 16)
    assert np.mean(np.stack(codes.arrays) == np.stack(whole)) > 0.999
    decoded = codec.decode(codes)
    assert np.abs(decoded - codec.decode_frames(codes.arrays, 0)).max() < 1e-4 * np.abs(decoded).max()

    start = 600
    first = codec.preroll(start)
    decoder = codec.decoder(start=start)
    later = Codes(tuple(array[:, first:] for array in codes.arrays))
    part = np.concatenate([decoder.push(later), decoder.flush()], -1)
    assert np.array_equal(part, decoded[..., start * HOP :])


def test_parts_of_a_stream_give_the_same_bits(codec: mdct.MdctCodec) -> None:
    audio = noise(400)
    codes = codec.encode(audio, 4)
    encoder = codec.encoder(4)
    parts = [encoder.push(part) for part in np.split(audio, [1000, 50001, 200000], axis=-1)]
    joined = Codes.join([*parts, encoder.flush()])
    assert all(np.array_equal(a, b) for a, b in zip(codes.arrays, joined.arrays, strict=True))


def test_both_networks_give_the_same(net: fullband_torch.FullbandNet, codec: mdct.MdctCodec) -> None:
    """Numpy and PyTorch add up in different orders, so that near-ties may fall to either side."""
    other = fullband_torch.TorchCodec(SPEC, net, torch.device("cpu"))
    assert other.spec.fingerprint == codec.spec.fingerprint
    audio = noise(300, rows=2)
    codes, theirs = codec.encode(audio), other.encode(torch.from_numpy(audio))
    for ours, array in zip(codes.arrays[:4], theirs.arrays, strict=False):
        assert np.mean(ours == array.numpy()) > 0.999
    same = Codes(tuple(torch.from_numpy(array) for array in codes.arrays))
    decoded = codec.decode(codes)
    assert np.abs(decoded - other.decode(same).numpy()).max() < 1e-4 * np.abs(decoded).max()


@pytest.mark.parametrize("length", [1, HOP // 2 - 1, HOP, HOP + 1, fullband.RATE // 2, 3 * fullband.RATE])
def test_every_prefix_and_every_length_decode(codec: mdct.MdctCodec, length: int) -> None:
    codes = codec.encode(noise(225)[..., :length])
    assert codes.frames(SPEC) == -(-length // HOP)
    for count in (1, 7, 16):
        decoded = codec.decode(codes.prefix(count), length)
        assert decoded.shape == (1, 1, length)
        assert np.isfinite(decoded).all()


def test_contexts_are_exact(net: fullband_torch.FullbandNet, codec: mdct.MdctCodec) -> None:
    """As far as they say, and no further, a change of one frame reaches."""
    encode, decode = net.context()
    assert MODELS["nac_48khz"].decode_plan == codec.decode_plan == Plan(decode, decode, mdct.WINDOW)
    assert codec.encode_plan == Plan(encode, encode, mdct.WINDOW)
    frames, at = 81, 40
    audio = torch.from_numpy(noise(frames))
    other = audio.clone()
    other[..., at * HOP : (at + 1) * HOP] *= -2
    latent = torch.randn(1, frames, net.quantizer.codebooks.shape[-1])
    changed = latent.clone()
    changed[:, at] += 1
    with torch.inference_mode():
        encoded = (net.encode(audio) != net.encode(other)).any(-1)[0]
        decoded = (net.decode(latent, 8) != net.decode(changed, 8)).view(frames, HOP).any(-1)
    for reached, context in ((encoded, encode), (decoded, decode)):
        assert reached.nonzero().flatten().tolist() == list(range(at - context, at + context + 1))


def test_any_part_decodes_as_in_the_whole(codec: mdct.MdctCodec) -> None:
    codes = codec.encode(noise(700), 4)
    whole = codec.decode(codes)
    for start in (1, 255, 256, 511, 600, 699):
        first, end = codec.preroll(start), min(codec.decode_plan.end(start), 700)
        decoder = codec.decoder(start=start)
        part = decoder.push(Codes(tuple(array[:, first:end] for array in codes.arrays)))
        part = np.concatenate([part, decoder.flush()], -1)[..., :HOP]
        assert np.array_equal(part, whole[..., start * HOP :][..., :HOP]), start


def test_silence_and_full_scale_are_finite(codec: mdct.MdctCodec) -> None:
    for audio in (np.zeros((1, 1, 20 * HOP), np.float32), np.sign(noise(20))):
        assert np.isfinite(codec.decode(codec.encode(audio))).all()


def test_noise_depends_on_the_position_only() -> None:
    noise = fullband.position_noise(0, 200)
    assert np.array_equal(fullband.position_noise(150, 50), noise[600:])
    for first in (0, 2**31, 2**33 // HOP):
        found = fullband_torch.position_noise(first, 3).numpy()
        assert np.array_equal(found, fullband.position_noise(first, 3))


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="weights of nac_48khz"):
        fullband.load(SPEC, tmp_path / "x.safetensors")
    save_file({"encoder.linear.weight": np.zeros((3, 3), np.float32)}, tmp_path / "y.safetensors")
    with pytest.raises(ModelError, match="weights of nac_48khz: quantizer"):
        fullband.load(SPEC, tmp_path / "y.safetensors")


def test_training_runs_from_nothing_to_weights_and_resumes(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "examples" / "train" / "run.py"
    weights, exported = tmp_path / "nac_48khz.safetensors", []
    for steps, processes in (("2", "2"), ("4", "1")):
        command = [sys.executable, str(script), "--work", str(tmp_path), "--smoke", "--steps", steps]
        subprocess.run([*command, "--processes", processes], check=True, timeout=300)
        exported.append(load_file(weights))
    codec = fullband.load(SPEC, weights)
    assert codec.encode(np.zeros((1, 1, 1000), np.float32)).frames(SPEC) == 2
    assert steps_of(tmp_path / "train.csv") == [2, 4]
    assert steps_of(tmp_path / "held.csv") == [0, 2, 4]
    assert all(np.isfinite(tensor).all() for tensor in exported[1].values())
    changed = {name for name in exported[1] if not np.array_equal(exported[0][name], exported[1][name])}
    assert {name.split(".")[0] for name in changed} >= {"encoder", "decoder", "quantizer"}
    # Exported weights are a beginning, too.
    begun = tmp_path / "again"
    command = [sys.executable, str(script), "--work", str(begun), "--smoke", "--init", str(weights)]
    subprocess.run([*command, "--steps", "2", "--processes", "1"], check=True, timeout=300)
    assert steps_of(begun / "held.csv") == [0, 2]


def steps_of(log: Path) -> list[int]:
    return [int(line.split(",")[0]) for line in log.read_text().splitlines()[1:]]
