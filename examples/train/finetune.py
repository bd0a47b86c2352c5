"""The second phase: the decoder against discriminators, with the encoder and the codebooks as they are.

Codes, and so everything that was ever said about them, stay the same; what changes is how they sound.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from batches import Batches
from discriminators import WINDOWS, Discriminator, to_deceive, to_tell
from losses import RESOLUTIONS, SpectralLoss, waveform_loss
from torch import Tensor, nn
from train import WEIGHTS, MovingCodebooks, Options, append, draw_levels, save, validate

from nac.codecs.mdct_torch import HOP, MdctNet, position_noise

#: size of the gradient of deceiving against that of reconstruction, for each crop at the decoded samples
SHARE = 0.5
#: of that gradient, what matching the layers counts against the hinge loss
MATCHING = 2.0
LOGGED = ("mel", "loud", "compressed", "waveform", "hinge", "matching", "discriminator")


class Batch(NamedTuple):
    """``audio`` [B, N]; what the codebooks made of it, [B, T, D], ``levels`` of them; the noise of its frames."""

    audio: Tensor
    quantized: Tensor
    levels: Tensor
    noise: Tensor


@torch.no_grad()
def coded(net: MdctNet, books: MovingCodebooks, batches: Batches, options: Options) -> Batch:
    """Draw crops and code them."""
    audio = batches.batch(options.batch, options.frames * HOP)
    levels = draw_levels(batches.random, options.batch)
    sums = books.quantize(net.encode(audio), learn=False)
    noise = position_noise(int(batches.random.integers(0, 10**6)), options.frames)
    return Batch(audio[:, 0], sums[levels - 1, torch.arange(options.batch)], levels, noise)


def balanced(reconstruction: Tensor, deception: Tensor, audio: Tensor, share: float) -> Tensor:
    """The gradient of both at the audio [B, N], the second's scaled to ``share`` of the first's in each crop."""
    wanted = torch.autograd.grad(reconstruction, audio)[0]
    added = torch.autograd.grad(deception, audio)[0]
    sizes = [gradient.norm(dim=1, keepdim=True) for gradient in (wanted, added)]
    return wanted + added * (share * sizes[0] / (sizes[1] + 1e-12))


def gradients(
    net: MdctNet, judge: nn.Module, spectral: SpectralLoss, batch: Batch, windows: list[int], share: float
) -> dict[str, Tensor]:
    """Set the gradients of the decoder and of one discriminator; gives the losses."""
    coefficients, noisy = net.synthesize(batch.quantized, batch.levels, batch.noise)
    decoded = net.inverse(noisy)[:, 0]
    heard = decoded.detach().requires_grad_()
    terms = spectral(heard, batch.audio, windows)
    terms["hinge"], terms["matching"] = to_deceive(judge, heard, batch.audio)
    terms["waveform"] = waveform_loss(net, coefficients, net.transform(batch.audio[:, None]))
    reconstruction = torch.stack([WEIGHTS[name] * terms[name] for name in ("mel", "loud", "compressed")]).sum()
    gradient = balanced(reconstruction, terms["hinge"] + MATCHING * terms["matching"], heard, share)
    torch.autograd.backward([decoded, WEIGHTS["waveform"] * terms["waveform"]], [gradient, None])
    terms["discriminator"] = to_tell(judge, decoded.detach(), batch.audio)
    terms["discriminator"].backward()
    return terms


def finetune(work: Path, options: Options) -> MdctNet:
    """Go on from the end of the first phase in ``work``, or from where this phase was stopped."""
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(options.seed)
    first_phase = torch.load(work / "checkpoint.pt", weights_only=True)
    net, spectral = MdctNet(), SpectralLoss()
    net.load_state_dict(first_phase["net"])
    net.encoder.requires_grad_(False)
    books = MovingCodebooks(net)
    judges = nn.ModuleDict({str(window): Discriminator(window) for window in WINDOWS})
    ours = torch.optim.AdamW(net.decoder.parameters(), betas=(0.8, 0.98), weight_decay=0.01)
    theirs = torch.optim.AdamW(judges.parameters(), betas=(0.8, 0.98), weight_decay=0.01)
    learning: dict[str, Any] = {"decoder": net.decoder, "judges": judges, "ours": ours, "theirs": theirs}
    checkpoint, after, begun, before = work / "adversarial.pt", first_phase["step"], 0, first_phase["hours"]
    if checkpoint.exists() and (state := torch.load(checkpoint, weights_only=True))["after"] == after:
        for name, part in learning.items():
            part.load_state_dict(state[name])
        begun, before = state["step"], state["hours"]

    batches = Batches(work, "train", options.seed)
    batches.random = np.random.default_rng([options.seed, after, begun])
    held = Batches(work, "held", 1, made_up=0, side=0).batch(options.held_crops, options.frames * HOP)
    began, running = time.monotonic(), dict.fromkeys(LOGGED, 0.0)
    for step in range(begun, options.adversarial):
        batch = coded(net, books, batches, options)
        judge = judges[str(batches.random.choice(WINDOWS))]
        windows = batches.random.choice(list(RESOLUTIONS), 2, replace=False).tolist()
        # Discriminators that know nothing yet have little say.
        share = SHARE * min((step + 1) / options.warmup, 1)
        for optimizer, rate in ((ours, options.adversarial_rate), (theirs, options.discriminator_rate)):
            optimizer.zero_grad(set_to_none=True)
            optimizer.param_groups[0]["lr"] = rate * (1 - step / options.adversarial)
        terms = gradients(net, judge, spectral, batch, windows, share)
        torch.nn.utils.clip_grad_norm_(net.decoder.parameters(), 1.0)
        ours.step()
        theirs.step()
        for name, term in terms.items():
            running[name] += term.item() / options.every
        if (step + 1) % options.every == 0 or step + 1 == options.adversarial:
            hours = before + (time.monotonic() - began) / 3600
            state = {name: part.state_dict() for name, part in learning.items()}
            save(state | {"after": after, "step": step + 1, "hours": hours}, checkpoint)
            row = {"step": after + step + 1, "hours": hours}
            append(work / "adversarial.csv", row | running)
            append(work / "held.csv", row | validate(net, books, spectral, held))
            print(" ".join(f"{name} {value:.4g}" for name, value in (row | running).items()), flush=True)
            running = dict.fromkeys(LOGGED, 0.0)
    return net
