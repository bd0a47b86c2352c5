"""The built-in family: an exact transform, windows that equal the whole, prefixes, and weights that load."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from threadpoolctl import ThreadpoolController, threadpool_limits

import nac
from nac.codecs import mdct, mdct_torch
from nac.codecs.base import Codes
from nac.codecs.layers.one_thread import OneThread
from nac.errors import ModelError
from nac.spec import Codebook, CodecSpec

SPEC = CodecSpec("nac_24khz", "mdct", 24000, 1, mdct.HOP, (Codebook(10),) * 16)
BUILTIN = ["nac_24khz", "nac_48khz"]
BUILTIN_FOLDER = Path(nac.__file__).parent / "codecs" / "builtin"


@pytest.fixture(scope="module")
def net() -> mdct_torch.MdctNet:
    torch.manual_seed(0)
    net = mdct_torch.MdctNet()
    with torch.no_grad():
        net.quantizer.codebooks.normal_(std=0.4)
        net.decoder.leave.weight.mul_(0.3)
    return net


@pytest.fixture(scope="module")
def codec(net: mdct_torch.MdctNet) -> mdct.MdctCodec:
    tensors = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    return mdct.MdctCodec(SPEC, mdct.Network(tensors), tensors)


def noise(frames: int, rows: int = 1) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((rows, 1, frames * mdct.HOP)).astype(np.float32) * 0.1


@torch.inference_mode()
def test_transform_is_inverted_to_the_first_and_last_sample(net: mdct_torch.MdctNet) -> None:
    audio = torch.randn(2, 1, 3 * mdct.HOP)
    back = net.inverse(net.transform(audio)[..., : mdct.HOP])
    torch.testing.assert_close(back, audio, atol=1e-5, rtol=0)


def test_windows_give_what_the_whole_gives(codec: mdct.MdctCodec) -> None:
    audio = noise(900)
    codes = codec.encode(audio)
    whole = codec.encode_frames(audio, 16)
    assert np.mean(np.stack(codes.arrays) == np.stack(whole)) > 0.999
    decoded = codec.decode(codes)
    assert np.abs(decoded - codec.decode_frames(codes.arrays, 0)).max() < 1e-5

    start = 600
    first = codec.preroll(start)
    decoder = codec.decoder(start=start)
    later = Codes(tuple(array[:, first:] for array in codes.arrays))
    part = np.concatenate([decoder.push(later), decoder.flush()], -1)
    assert np.array_equal(part, decoded[..., start * mdct.HOP :])


def test_both_networks_give_the_same(net: mdct_torch.MdctNet, codec: mdct.MdctCodec) -> None:
    """Numpy and PyTorch add up in different orders, so that near-ties may fall to either side."""
    other = mdct_torch.TorchCodec(SPEC, net, torch.device("cpu"))
    assert other.spec.fingerprint == codec.spec.fingerprint
    audio = noise(300, rows=2)
    codes, theirs = codec.encode(audio), other.encode(torch.from_numpy(audio))
    for ours, array in zip(codes.arrays[:4], theirs.arrays, strict=False):
        assert np.mean(ours == array.numpy()) > 0.999
    same = Codes(tuple(torch.from_numpy(array) for array in codes.arrays))
    assert np.abs(codec.decode(codes) - other.decode(same).numpy()).max() < 1e-5


@pytest.mark.parametrize("name", BUILTIN)
def test_tensors_go_in_and_come_out(name: str) -> None:
    codec = nac.load(name, device="cpu")
    audio = torch.from_numpy(noise(40))
    codes = codec.encode(audio, 4)
    encoder = codec.encoder(4)
    parts = Codes.join([encoder.push(audio[..., :5000]), encoder.push(audio[..., 5000:]), encoder.flush()])
    assert all(torch.equal(a, b) for a, b in zip(codes.arrays, parts.arrays, strict=True))
    assert torch.equal(codec.decode(parts, 12000), codec.decode(codes)[..., :12000])


@pytest.mark.parametrize("name", BUILTIN)
def test_the_number_of_threads_changes_nothing(name: str, tmp_path: Path) -> None:
    np.save(tmp_path / "audio.npy", noise(600))
    code = (
        f"import sys, hashlib, numpy\nfrom nac.weights import models\ncodec = models.load('{name}')\n"
        "codes = codec.encode(numpy.load(sys.argv[1]))\n"
        "found = [*codes.arrays, codec.decode(codes)]\n"
        "print(hashlib.sha256(b''.join(a.tobytes() for a in found)).hexdigest(), 'torch' in sys.modules)"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "audio.npy")],
            env={**os.environ, "OPENBLAS_NUM_THREADS": threads},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for threads in "12"
    ]
    assert found[0] == found[1]
    assert found[0].endswith("False\n")


def test_fewer_codebooks_give_the_first_codes_of_more(codec: mdct.MdctCodec, net: mdct_torch.MdctNet) -> None:
    latent = np.random.default_rng(1).standard_normal((20, net.quantizer.codebooks.shape[2])).astype(np.float32)
    all_codes = np.stack(codec.network.quantizer.encode(latent, 16))
    for count in range(1, 17):
        np.testing.assert_array_equal(np.stack(codec.network.quantizer.encode(latent, count)), all_codes[:count])
    for count in (1, 4, 6, 16):
        of_torch = net.quantizer.encode(torch.from_numpy(latent)[None], count)
        np.testing.assert_array_equal(of_torch[:, 0].numpy(), all_codes[:count])


@pytest.mark.parametrize("first", range(7))
def test_an_entry_further_away_is_taken_if_the_next_codebook_then_comes_nearer(first: int) -> None:
    books = np.tile(np.float32([0, 1000, 2000, 3000])[:, None], (8, 1, 1))
    books[first : first + 2, :, 0] = [0, 10, 20, 30], [6, -9, 8, 7]  # 10 is nearest to 6, but 0 + 6 is equal
    quantizer = mdct.Quantizer(mdct.Weights({"quantizer.codebooks": books}))
    decoded = quantizer.decode(tuple(quantizer.encode(np.float32([[6], [36]]), 8)))
    assert decoded.ravel().tolist() == ([1, 36] if first == 3 else [6, 36])  # not across groups of four


def test_codes_come_nearer_than_those_of_the_nearest_entries() -> None:
    books = load_file(BUILTIN_FOLDER / "nac_48khz.safetensors")["quantizer.codebooks"].astype(np.float32)
    rng = np.random.default_rng(2)
    latent = np.float32(sum(book[rng.integers(0, len(book), 300)] for book in books))
    rest = latent.copy()
    for book in books[:4]:
        rest -= book[(rest @ book.T - 0.5 * np.square(book).sum(axis=1)).argmax(axis=1)]
    quantizer = mdct.Quantizer(mdct.Weights({"quantizer.codebooks": books}))
    found = latent - quantizer.decode(tuple(quantizer.encode(latent, 4)))
    assert np.square(found).sum() < 0.98 * np.square(rest).sum()


def test_every_prefix_and_every_length_decode(codec: mdct.MdctCodec) -> None:
    for length in (1, mdct.HOP, mdct.HOP + 1):
        codes = codec.encode(noise(2)[..., :length])
        for count in (1, 7, 16):
            decoded = codec.decode(codes.prefix(count), length)
            assert decoded.shape == (1, 1, length)
            assert np.isfinite(decoded).all()


def test_noise_depends_on_the_position_only() -> None:
    noise = mdct.position_noise(0, 200)
    assert np.array_equal(mdct.position_noise(150, 50), noise[150:])
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02
    assert abs((noise[1:] * noise[:-1]).mean()) < 0.02
    for first in (0, 2**31, 2**33 // mdct.HOP):
        assert np.array_equal(mdct_torch.position_noise(first, 3).numpy(), mdct.position_noise(first, 3))


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="weights of nac_24khz"):
        mdct.load(SPEC, tmp_path / "x.safetensors")
    save_file({"encoder.linear.weight": np.zeros((3, 3), np.float32)}, tmp_path / "y.safetensors")
    with pytest.raises(ModelError, match="weights of nac_24khz: quantizer"):
        mdct.load(SPEC, tmp_path / "y.safetensors")


def threads() -> set[int]:
    return {library.num_threads for library in ThreadpoolController().select(user_api="blas").lib_controllers}


def test_products_are_those_of_one_thread_whichever_thread_asks() -> None:
    with threadpool_limits(2, user_api="blas"), ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        before = threads()

        def step(pool: ThreadPoolExecutor, action: Callable[[], None]) -> set[int]:
            pool.submit(action).result()
            return threads()

        only = OneThread()
        leave = partial(only.__exit__, None, None, None)
        for first, second in ((one, other), (other, one)):
            assert step(first, only.__enter__) == {1}
            assert step(second, only.__enter__) == {1}
            assert step(first, leave) == {1}
            assert step(second, leave) == before
