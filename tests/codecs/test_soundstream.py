"""SoundStream against the official graphs, its 8-bit arithmetic against plain integers, and streaming."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lyra_files import table, vector, write_models
from torch import Tensor

from nac.codecs import registry, soundstream
from nac.codecs.base import Codes
from nac.codecs.fingerprint import fingerprint
from nac.codecs.layers.spans import Span
from nac.codecs.soundstream import SoundStream, files, layers
from nac.codecs.soundstream.layers import (
    Affine,
    Convolution,
    LeakyReLU,
    Quantise,
    QuantisedTransposed,
    Residual,
)
from nac.codecs.soundstream.tflite import read_operators
from nac.errors import ModelError

CPU = torch.device("cpu")
HOP = 320
SPEC = registry.find("soundstream_16khz").spec


def load(folder: Path, window: int | None = None) -> SoundStream:
    codec = soundstream.load(SPEC, folder, CPU)
    if window is not None:
        codec.encode_plan = replace(codec.encode_plan, window=window)
        codec.decode_plan = replace(codec.decode_plan, window=window)
    return codec


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Threads that wait for one another are slow where other programs run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def random_codec(random_lyra_weights: Path) -> SoundStream:
    """Short windows make for many of them in a short signal."""
    return load(random_lyra_weights, window=12)


def noise(batch: int, samples: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(batch, 1, samples, generator=torch.Generator().manual_seed(seed))


def assert_same(found: Codes, expected: Codes) -> None:
    assert len(found.arrays) == len(expected.arrays)
    assert all(torch.equal(a, b) for a, b in zip(found.arrays, expected.arrays, strict=True))


# The official graphs, run frame by frame by an interpreter.

RATES = [("64", 16), ("120", 30), ("184", 46)]


@pytest.fixture(scope="module")
def oracle(lyra_weights: Path) -> dict[str, np.ndarray]:
    return dict(np.load(lyra_weights / "oracle-sample1.npz"))


def oracle_audio(oracle: dict[str, np.ndarray]) -> Tensor:
    return torch.tensor(oracle["x"].astype(np.float32) / 32768)[None, None]


def oracle_codes(oracle: dict[str, np.ndarray], key: str, codebooks: int) -> Codes:
    codes = torch.tensor(oracle[f"codes{key}"][:, :codebooks].astype(np.int64))
    return Codes(tuple(codes.T[:, None].contiguous()))


def test_features_are_those_of_the_official_graph(lyra_weights: Path, oracle: dict[str, np.ndarray]) -> None:
    frames = len(oracle["feat"])
    features = load(lyra_weights).features(oracle_audio(oracle)[..., : frames * HOP])
    assert np.array_equal(features[0].T.numpy(), oracle["feat"])


@pytest.mark.parametrize("window", [None, 60])
@pytest.mark.parametrize(("key", "codebooks"), RATES)
def test_codes_and_audio_are_those_of_the_official_graphs(
    lyra_weights: Path, oracle: dict[str, np.ndarray], key: str, codebooks: int, window: int | None
) -> None:
    codec, expected = load(lyra_weights, window), oracle_codes(oracle, key, codebooks)
    codes = codec.encode(oracle_audio(oracle), codebooks)
    assert codes.frames(codec.spec) == 173  # the graph drops the rest that does not fill a frame
    assert_same(Codes(tuple(array[:, :172] for array in codes.arrays)), expected)
    assert np.array_equal(codec.dequantise(expected.arrays)[0].T.numpy(), oracle[f"q{key}"])
    audio = codec.decode(expected)
    assert audio.shape == (1, 1, 55040)
    assert np.abs(audio[0, 0].numpy() - oracle[f"audio{key}"]).max() <= 1e-5


def test_fingerprint_of_the_official_weights_stays(lyra_weights: Path) -> None:
    # Files made with these weights name it.
    assert load(lyra_weights).spec.fingerprint == "e86727a4bc29fbd2"


# Receptive fields.


def test_receptive_fields_are_those_measured(random_codec: SoundStream) -> None:
    assert random_codec._encoder.needs(Span(0, 0)) == Span(HOP - 8224, HOP - 1)
    low, high = random_codec._decoder.needs(Span(0, HOP - 1))
    assert (low, high) == (-25, 0)  # 24.7 frames
    assert (random_codec.encode_plan.left, random_codec.encode_plan.right) == (25, 0)
    assert (random_codec.decode_plan.left, random_codec.decode_plan.right) == (25, 0)


def test_nothing_outside_the_receptive_field_matters(random_codec: SoundStream) -> None:
    audio = noise(1, 60 * HOP)
    other, at = audio.clone(), 20 * HOP + 100
    other[..., at] += 0.5
    changed = (random_codec.features(audio) != random_codec.features(other))[0].any(0).nonzero()[:, 0]
    assert changed.min() == 20
    assert 30 < changed.max() <= (at + 8224 - HOP) // HOP

    codes = random_codec.encode(audio, 4)
    arrays = tuple(array.clone() for array in codes.arrays)
    arrays[0][:, 20] ^= 1
    decoded = [random_codec.decode_frames(a, 0)[0, 0] for a in (codes.arrays, arrays)]
    changed = (decoded[0] != decoded[1]).nonzero()[:, 0]
    assert changed.min() >= 20 * HOP
    assert 30 * HOP < changed.max() < (20 + 26) * HOP


def test_less_context_would_be_noticed(random_lyra_weights: Path) -> None:
    codec, audio = load(random_lyra_weights, window=10), noise(1, 60 * HOP)
    codes = codec.encode(audio)
    decoded = codec.decode(codes)
    codec.encode_plan = replace(codec.encode_plan, left=10)
    codec.decode_plan = replace(codec.decode_plan, left=10)
    assert any(not torch.equal(a, b) for a, b in zip(codes.arrays, codec.encode(audio).arrays, strict=True))
    assert not torch.equal(decoded, codec.decode(codes))


# Streaming: whatever the blocks, the numbers are those of the whole signal.

blocks = st.lists(st.integers(0, 5000), max_size=12)


@settings(max_examples=60, deadline=None)
@given(samples=st.integers(0, 50 * HOP), cuts=blocks, batch=st.integers(1, 3), codebooks=st.integers(1, 46))
def test_encoding_in_blocks(
    random_codec: SoundStream, samples: int, cuts: list[int], batch: int, codebooks: int
) -> None:
    audio = noise(batch, samples)
    whole = random_codec.encode(audio, codebooks)
    assert [array.shape for array in whole.arrays] == [(batch, -(-samples // HOP))] * codebooks

    encoder, parts = random_codec.encoder(codebooks), []
    for cut in cuts:
        parts.append(encoder.push(audio[..., :cut]))
        audio = audio[..., cut:]
    parts += [encoder.push(audio), encoder.flush()]
    assert_same(Codes.join(parts), whole)


@settings(max_examples=60, deadline=None)
@given(
    frames=st.integers(0, 60), start=st.integers(0, 60), cuts=st.lists(st.integers(0, 20)), seed=st.integers(0, 9)
)
def test_decoding_in_blocks_from_any_frame(
    random_codec: SoundStream, frames: int, start: int, cuts: list[int], seed: int
) -> None:
    generator, codebooks = torch.Generator().manual_seed(seed), 1 + 5 * seed
    arrays = tuple(torch.randint(16, (2, frames), generator=generator) for _ in range(codebooks))
    whole = random_codec.decode(Codes(arrays))
    assert whole.shape == (2, 1, frames * HOP)

    start = min(start, frames)
    decoder, parts = random_codec.decoder(start=start), []
    arrays = tuple(array[:, random_codec.preroll(start) :] for array in arrays)
    for cut in cuts:
        parts.append(decoder.push(Codes(tuple(array[:, :cut] for array in arrays))))
        arrays = tuple(array[:, cut:] for array in arrays)
    parts += [decoder.push(Codes(arrays)), decoder.flush()]
    assert torch.equal(torch.cat(parts, dim=-1), whole[..., start * HOP :])


@pytest.mark.parametrize("samples", [1, 319, 320, 321, 40 * HOP - 1])
def test_a_short_signal_is_one_window_padded_with_zeros(random_lyra_weights: Path, samples: int) -> None:
    codec, audio = load(random_lyra_weights), noise(1, samples)
    padded = torch.nn.functional.pad(audio, (0, -samples % HOP))
    codes = codec.encode(audio, 9)
    assert_same(codes, Codes(codec.encode_frames(padded, 9)))
    assert torch.equal(codec.decode(codes), codec.decode_frames(codes.arrays, 0))
    assert torch.equal(codec.decode(codes, samples), codec.decode(codes)[..., :samples])


def test_signals_of_a_batch_do_not_touch(random_codec: SoundStream) -> None:
    audio = torch.cat([noise(1, 9000, seed) for seed in range(3)])
    codes = random_codec.encode(audio, 12)
    decoded = random_codec.decode(codes)
    for i in range(3):
        alone = random_codec.encode(audio[i : i + 1], 12)
        assert_same(Codes(tuple(array[i : i + 1] for array in codes.arrays)), alone)
        assert torch.equal(random_codec.decode(alone), decoded[i : i + 1])


def test_coarse_codes_do_not_depend_on_finer_ones(random_codec: SoundStream) -> None:
    audio = noise(1, 9000)
    assert_same(random_codec.encode(audio, 7), random_codec.encode(audio).prefix(7))
    errors = []
    features = random_codec.features(noise(1, 30 * HOP))
    for codebooks in (1, 16, 30, 46):
        error = features - random_codec.dequantise(random_codec.quantise(features, codebooks))
        errors.append(error.square().mean().item())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 2


@pytest.mark.parametrize("codebooks", [0, 47])
def test_number_of_codebooks(random_codec: SoundStream, codebooks: int) -> None:
    with pytest.raises(ModelError, match=f"1 to 46 codebooks, not {codebooks}"):
        random_codec.encoder(codebooks)


# The 8-bit layers against plain integers.

affines = st.builds(
    lambda scale, zero_point: Affine(np.float32(scale), zero_point), st.floats(0.02, 2), st.integers(-128, 127)
)


def centred(source: Affine, *shape: int, seed: int = 0) -> Tensor:
    low, high = source.limits
    return torch.randint(low, high + 1, shape, generator=torch.Generator().manual_seed(seed)).float()


def clamped(value: int, target: Affine) -> int:
    return min(max(value, -128 - target.zero_point), 127 - target.zero_point)


def requantised(sums: np.ndarray, ratio: np.ndarray, target: Affine) -> np.ndarray:
    return np.clip(np.rint(sums.astype(np.float32) * ratio.astype(np.float32)), *target.limits)


@given(target=affines, values=st.lists(st.floats(-1000, 1000, width=32), min_size=1))
def test_quantise(target: Affine, values: list[float]) -> None:
    found = Quantise(target)(torch.tensor(values))
    expected = [clamped(round(float(np.float32(value) / target.scale)), target) for value in values]
    assert found.tolist() == expected


@given(source=affines, target=affines)
def test_leaky_relu(source: Affine, target: Affine) -> None:
    x = torch.arange(source.limits[0], source.limits[1] + 1).float()
    up = round(256 * float(source.scale / target.scale))
    down = round(256 * float(source.scale * np.float32(0.3) / target.scale))
    expected = [clamped((int(d) * (up if d >= 0 else down) + 128) >> 8, target) for d in x]
    assert LeakyReLU(source, target)(x).tolist() == expected


@given(source=affines, middle=affines, target=affines)
def test_residual_sum(source: Affine, middle: Affine, target: Affine) -> None:
    x, y = centred(source, 500), centred(middle, 500, seed=1)
    branch = layers.chain([LeakyReLU(source, middle)])
    branch.layers = (lambda _: y.clone(),)
    a, b = float(middle.scale / target.scale), float(source.scale / target.scale)
    shift = 20 - int(np.floor(np.log2(max(a, b))))
    a, b = round(a * 2**shift), round(b * 2**shift)
    expected = [
        clamped((int(p) * a + int(q) * b + (1 << shift - 1)) >> shift, target) for p, q in zip(y, x, strict=True)
    ]
    assert Residual(branch, source, target)(x).tolist() == expected


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "depthwise"),
    [(1, 1, 1, False), (3, 1, 1, False), (4, 2, 1, False), (3, 1, 1, True), (3, 1, 9, True)],
)
def test_quantised_convolution(kernel: int, stride: int, dilation: int, depthwise: bool) -> None:
    rng, target = np.random.default_rng(kernel), Affine(np.float32(0.3), 5)
    source, groups, channels = Affine(np.float32(0.1), -100), 8 if depthwise else 2, 8
    weight = rng.integers(-127, 128, (8, channels // groups, kernel))
    bias, ratio = rng.integers(-999, 999, 8), rng.uniform(0.001, 0.01, (8, 1)).astype(np.float32)
    x = centred(source, 1, channels, 24)

    left = dilation * (kernel - 1) + 1 - stride
    padded = np.pad(x[0].numpy().astype(np.int64), ((0, 0), (left, 0)))
    sums = np.zeros((8, 24 // stride), np.int64) + bias[:, None]
    for out in range(8):
        group = out // (8 // groups) * (channels // groups)
        for i, k in np.ndindex(channels // groups, kernel):
            row = padded[group + i, k * dilation :][: (24 // stride - 1) * stride + 1 : stride]
            sums[out] += weight[out, i, k] * row
    expected = requantised(sums, ratio, target)
    assert len(np.unique(expected)) > 30

    layer = layers.Depthwise if depthwise else Convolution
    tensors = [torch.tensor(values, dtype=torch.float32) for values in (weight, bias, ratio)]
    found = layer(tensors[0], tensors[1], stride, dilation, source, target, tensors[2])(x)
    assert np.array_equal(found[0].numpy(), expected)


@pytest.mark.parametrize("block", [1, 2])
def test_quantised_transposed_convolution_frame_by_frame(block: int) -> None:
    """As the official graph does it: a frame at a time, and what hangs over is kept for the next."""
    rng, groups, inputs, outputs, frames = np.random.default_rng(0), 2, 6, 3, 5
    source = Affine(np.float32(0.1), 20)
    targets = [Affine(np.float32(0.2), 3), Affine(np.float32(0.5), -60)]
    weight = rng.integers(-127, 128, (groups, inputs, outputs, 4))
    bias, overlap = (
        rng.integers(-999, 999, (groups, outputs)),
        rng.normal(size=(groups, outputs)).astype(np.float32),
    )
    ratio = np.array([0.01, 0.02], np.float32)
    x = centred(source, 1, groups * inputs, frames * block)

    expected = np.zeros((groups * outputs, frames * block * 2), np.float32)
    for g, target in enumerate(targets):
        kept = np.zeros((outputs, 2), np.float32)
        for frame in range(frames):
            sums = np.tile(bias[g][:, None], 2 * block + 2)
            for step in range(block):
                column = x[0, g * inputs : (g + 1) * inputs, frame * block + step].numpy().astype(np.int64)
                sums[:, 2 * step : 2 * step + 4] += np.einsum("i,iok->ok", column, weight[g])
            steps = requantised(sums, ratio[g], target).astype(np.float32) * target.scale
            steps[:, :2] += kept
            kept = steps[:, 2 * block :] - overlap[g][:, None]
            start = frame * block * 2
            expected[g * outputs : (g + 1) * outputs, start : start + 2 * block] = steps[:, : 2 * block]

    def column(values: np.ndarray) -> Tensor:
        return torch.tensor(np.broadcast_to(values, (groups, outputs)).reshape(-1, 1, 1, 1), dtype=torch.float32)

    layer = QuantisedTransposed(
        weight=torch.tensor(weight.reshape(groups, inputs, -1).swapaxes(1, 2).copy(), dtype=torch.float32),
        bias=column(bias),
        stride=2,
        kernel=4,
        source=source,
        block=block,
        overlap=column(overlap),
        ratio=column(ratio[:, None]),
        low=column(np.array([[t.limits[0]] for t in targets])),
        high=column(np.array([[t.limits[1]] for t in targets])),
        scale=column(np.array([[t.scale] for t in targets])),
    )
    assert np.array_equal(layer(x)[0].numpy(), expected)


@pytest.mark.parametrize(("kernel", "stride"), [(10, 5), (64, 16)])
@pytest.mark.parametrize("steps", [1, 2, 3, 40])
def test_transposed_convolution_is_the_usual_one(kernel: int, stride: int, steps: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, x = (torch.randn(*shape, generator=generator) for shape in ((6, 3, kernel), (2, 6, steps)))
    bias = torch.arange(3.0)
    expected = torch.nn.functional.conv_transpose1d(x, weight, bias, stride)[..., : steps * stride]
    layer = layers.Transposed(weight.reshape(6, -1).T[None].contiguous(), bias[:, None, None], stride, kernel)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-5)


# Files.


def change_at(index: int, **changes: object):
    def change(operators: list[dict]) -> None:
        operators[index]["inputs"][1].update(changes)

    return change


FAULTS = {
    "a layer is missing": (lambda ops: ops.pop(), "encoder.bottleneck is missing"),
    "a layer in between is missing": (
        lambda ops: ops.pop(1),
        "encoder.0.res0.depthwise: DEPTHWISE_CONV_2D is missing",
    ),
    "a layer too many": (
        lambda ops: ops.append({**ops[0]}),
        "operators that SoundStream does not have: encoder.first",
    ),
    "a wrong shape": (
        change_at(0, values=np.zeros((64, 63, 1, 1), np.float32), shape=(64, 63, 1, 1)),
        "encoder.first",
    ),
    "a wrong type": (change_at(0, values=np.zeros((64, 64, 1, 1), np.int32)), "int32, not .* float32"),
    "too few values": (change_at(0, shape=(64, 65, 1, 1)), "encoder.first/weight"),
    "no values": (change_at(0, values=None), r"values with shape .* are missing"),
    "no scale": (change_at(-1, quantisation=((), ())), "number of scales is not 1 or 64"),
    "too few scales": (change_at(-1, quantisation=(np.ones(63), 0)), "number of scales is not 1 or 64"),
    "a scale of zero": (change_at(-1, quantisation=(np.zeros(64), 0)), "scale that is not positive"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_file_is_one_line(tmp_path: Path, fault: str) -> None:
    change, message = FAULTS[fault]
    write_models(tmp_path)
    write_models(tmp_path, change=change, only="soundstream_encoder.tflite")
    with pytest.raises(ModelError, match=rf"^soundstream_encoder\.tflite: .*{message}") as caught:
        soundstream.load(SPEC, tmp_path, CPU)
    assert "\n" not in str(caught.value)


def test_a_file_that_uses_the_same_bytes_again_and_again_is_refused(tmp_path: Path) -> None:
    b = flatbuffers.Builder()
    inputs = b.CreateNumpyVector(np.full(5000, -1, np.int32))
    operator = table(b, "Operator", Inputs=inputs)
    graph = table(b, "SubGraph", Name=b.CreateString("main"), Operators=vector(b, [operator] * 5000))
    fields = {"OperatorCodes": vector(b, [table(b, "OperatorCode")]), "Subgraphs": vector(b, [graph])}
    b.Finish(table(b, "Model", Version=3, **fields), file_identifier=b"TFL3")
    (tmp_path / "x.tflite").write_bytes(b.Output())
    with pytest.raises(ModelError, match="used too often"):
        read_operators(tmp_path / "x.tflite", "main", ["ADD"])


def test_layers_that_do_not_fit_together(tmp_path: Path) -> None:
    def change(operators: list[dict]) -> None:
        operators[-1]["inputs"][0]["quantisation"] = (0.05, 0)

    write_models(tmp_path)
    write_models(tmp_path, change=change, only="soundstream_encoder.tflite")
    with pytest.raises(ModelError, match="different quantisations"):
        soundstream.load(SPEC, tmp_path, CPU)


@pytest.mark.parametrize(
    "content", [None, b"", b"not a model", b"\x1c\0\0\0TFL3", bytes(4) + b"TFL3" + bytes(100)]
)
def test_what_is_not_a_model(tmp_path: Path, content: bytes | None) -> None:
    write_models(tmp_path)
    path = tmp_path / "lyragan.tflite"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=r"lyragan\.tflite(: | missing)") as caught:
        soundstream.load(SPEC, tmp_path, CPU)
    assert "\n" not in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_files_never_crash(
    random_lyra_weights: Path, tmp_path_factory: pytest.TempPathFactory, data
) -> None:
    name, subgraph, expected = data.draw(st.sampled_from(files.FILES))
    content = bytearray((random_lyra_weights / name).read_bytes())
    # The tables lie at the start, constants are most of the rest.
    for at in data.draw(st.lists(st.one_of(st.integers(0, 60000), st.integers(0, len(content) - 1)), max_size=4)):
        content[at % len(content)] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content) - 1)))
    path = tmp_path_factory.mktemp("damaged") / name
    path.write_bytes(content[:cut])
    problem = ""
    try:
        parameters = files._read(path, subgraph, expected)
    except ModelError as error:
        problem = str(error)
    assert "\n" not in problem
    assert problem.startswith(name) or list(parameters) == [entry.name for entry in expected]


def test_fingerprint_is_the_documented_one() -> None:
    tensors = {"b": np.array([[1, 2], [3, 4]]), "a.x": np.array(0.5, np.float64), "é": np.zeros((0, 3))}
    data = b"a.x\0" + struct.pack("<If", 0, 0.5)
    data += b"b\0" + struct.pack("<3I4f", 2, 2, 2, 1, 2, 3, 4)
    data += "é".encode() + b"\0" + struct.pack("<3I", 2, 0, 3)
    assert fingerprint(tensors) == hashlib.sha256(data).hexdigest()[:16]
    assert fingerprint({**tensors, "b": tensors["b"].T}) != fingerprint(tensors)


def test_everything_in_the_files_counts_in_the_fingerprint(tmp_path: Path, random_codec: SoundStream) -> None:
    found = {random_codec.spec.fingerprint}

    def other_activation(operators: list[dict]) -> None:
        operators[-1]["outputs"][0]["quantisation"] = (0.05, 0)

    def other_bias(operators: list[dict]) -> None:
        operators[0]["inputs"][2]["values"][0] += 0.01

    write_models(tmp_path)
    for change in (other_activation, other_bias):
        write_models(tmp_path, change=change, only="soundstream_encoder.tflite")
        found.add(load(tmp_path).spec.fingerprint)
    found.add(load(write_models(tmp_path, seed=1)).spec.fingerprint)
    assert len(found) == 4
    assert load(write_models(tmp_path)).spec.fingerprint == random_codec.spec.fingerprint
