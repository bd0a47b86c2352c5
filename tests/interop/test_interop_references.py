"""Files that `nac convert` makes, in the packages they are for, and theirs in nac."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
import torch
from test_interop import DATA, as_nac, converted, recording, streams

import nac
from nac.codecs import registry
from nac.codecs.registry import MODELS

DAC_16KHZ = {"encoder_rates": [2, 4, 5, 8], "decoder_rates": [8, 5, 4, 2], "n_codebooks": 12, "sample_rate": 16000}


@pytest.mark.parametrize(
    "name", ["encodec_24khz-24077.ecdc", "encodec_48khz-47620.ecdc", "encodec_48khz-106640.ecdc", None]
)
def test_encodec_reads_what_we_write(name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    compress = pytest.importorskip("encodec.compress", reason="encodec, the reference of .ecdc, is absent")
    if name is None:
        made = recording("encodec_24khz", 1000, codebooks=7, samples=319_999)
        wanted, file = made.codes[0], converted(as_nac(made), "ecdc")[0]
    else:
        wanted = np.load(DATA / "codes.npz")[f"{name}/codes"]
        file = converted(converted((DATA / name).read_bytes())[0], "ecdc")[0]
    kind = "encodec_48khz" if name and "48" in name else "encodec_24khz"
    model = compress.MODELS[kind](pretrained=False)
    taken: list[Any] = []

    def decode(frames: Any) -> Any:
        taken.extend(frames)
        return torch.zeros(1, model.channels, 1 << 20)

    monkeypatch.setattr(model, "decode", decode)
    monkeypatch.setitem(compress.MODELS, kind, lambda: model)
    audio, rate = compress.decompress(file)
    assert torch.equal(torch.cat([codes[0] for codes, _ in taken], -1), torch.from_numpy(wanted.astype(np.int64)))
    assert audio.shape[-1] == (int(name.split("-")[1].removesuffix(".ecdc")) if name else 319_999)
    assert rate == MODELS[kind].spec.sample_rate


def test_dac_reads_what_we_write(tmp_path: Path) -> None:
    base = pytest.importorskip("dac.model.base", reason="descript-audio-codec, the reference of .dac, is absent")
    made = recording("dac_44khz", 3000, codebooks=9, channels=2, samples=3000 * 512 - 100)
    for made_file, codes in (
        (as_nac(made), np.stack(made.codes)),
        (
            converted((DATA / "windows-16khz.dac").read_bytes())[0],
            np.load(DATA / "codes.npz")["windows-16khz.dac/codes"],
        ),
    ):
        path = tmp_path / "song.dac"
        path.write_bytes(converted(made_file, "dac")[0])
        read = base.DACFile.load(path)
        assert np.array_equal(read.codes.numpy(), codes)
        assert (read.channels, read.padding) == (2, codes is not None and codes.shape[1] == 9)


def test_windows_sound_as_in_the_reference(tmp_path: Path) -> None:
    reference = pytest.importorskip("dac", reason="descript-audio-codec, the reference of .dac, is absent")
    base = pytest.importorskip("dac.model.base")
    torch.manual_seed(0)
    weights = oracles.oracle("dac_16khz").save_original(tmp_path)
    model = reference.DAC(**DAC_16KHZ).eval()
    model.load_state_dict(torch.load(weights, weights_only=True)["state_dict"])
    ours = registry.load(MODELS["dac_16khz"].spec, weights, torch.device("cpu"))
    codes = torch.randint(1024, (2, 4, 3 * 34), generator=torch.Generator().manual_seed(0))
    length = 3 * 5346 - 100
    loudness = torch.tensor([-21.5])
    file = base.DACFile(codes, 34, length, loudness, 2, 16000, False, "1.0.0").save(tmp_path / "song.dac")
    theirs = model.decompress(file).audio_data[0].T.numpy()
    nac.convert(file, tmp_path / "song.nac", model="dac_16khz")
    got, rate = nac.read(tmp_path / "song.nac", load=lambda name: ours)
    assert (got.shape, rate) == (theirs.shape, 16000)
    joins = np.arange(4) * 5346
    far = np.abs(np.arange(length)[:, None] - joins).min(1) > 300
    for channel in range(2):
        # The reference brings each channel to the loudness by itself.
        a, b = got[:, channel], theirs[:, channel]
        error = b - a * (a[far] @ b[far] / (a[far] @ a[far]))
        assert np.abs(error[far]).max() < 1e-4 * np.abs(b).max()
        # Next to a join neither has all neighbours, and they do without in different ways: a tenth was measured.
        assert error[~far].std() < 0.2 * b[~far].std()


@pytest.mark.parametrize(("kind", "samples"), [("encodec_24khz", 24_000), ("encodec_48khz", 60_000)])
def test_files_with_a_language_model(
    kind: str, samples: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compress = pytest.importorskip("encodec.compress", reason="encodec, the reference of .ecdc, is absent")
    package = pytest.importorskip("encodec.model")
    torch.manual_seed(0)
    model = compress.MODELS[kind](pretrained=False)
    model.name = kind
    context = int(3.5 * model.frame_rate)
    language = package.LMModel(model.quantizer.n_q, 1024, dim=40, num_layers=2, past_context=context).eval()
    for linear in language.linears:
        linear.weight.data *= 30  # some codes are likely, most are not
    weights = tmp_path / "lm.th"
    torch.save(language.state_dict(), weights)
    made: list[torch.Tensor] = []

    def encode_segment(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        made.append(torch.randint(1024, (1, 3, -(-x.shape[-1] // 320))))
        return made[-1], torch.rand(1, 1) if model.normalize else None

    monkeypatch.setattr(model, "_encode_frame", encode_segment)
    monkeypatch.setattr(model, "get_lm_model", lambda: language)
    file = io.BytesIO()
    compress.compress_to_file(model, torch.zeros(model.channels, samples), file, use_lm=True)
    data, result = converted(file.getvalue(), lm=weights)
    assert np.array_equal(streams(data)[0], torch.cat(made, -1)[0].numpy())
    assert any("whether its language model computed there as it does here" in note for note in result.notes)
    language.linears[0].bias.data += 0.01
    torch.save(language.state_dict(), weights)
    with pytest.raises(nac.NacError, match="gives other results on this machine"):
        converted(file.getvalue(), lm=weights)
