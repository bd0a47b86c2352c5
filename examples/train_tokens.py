"""Train a toy language model of codes from shards, with a DataLoader, workers and a token pattern.

nac compress -r recordings -o archive && nac pack archive -o shards && python train_tokens.py shards

Each step of MusicGen's delay pattern has one token of every codebook; a GRU predicts the next step. For SNAC,
whose codebooks have different rates, use nac.flatten instead of nac.delay, and a model with one token per step.
"""

import sys

import torch
from torch import nn
from torch.utils.data import DataLoader

import nac

CODEBOOKS, SECONDS, EPOCHS, WIDTH = 3, 1.0, 4, 64

torch.manual_seed(0)
data = nac.Dataset(sys.argv[1], seconds=SECONDS, codebooks=CODEBOOKS, shuffle=1000, seed=0)
size = 1 << data.spec.codebooks[0].bits  # tokens of a codebook; token number `size` marks empty positions
print(f"{data.spec.name}: crops of {data.frames} frames, {CODEBOOKS} codebooks of {size} codes")


def tokens(codes: torch.Tensor) -> torch.Tensor:
    """Convert crops [batch, codebooks, frames] to steps [batch, codebooks, frames + codebooks - 1]."""
    codes = codes.where(codes >= 0, size)  # -1: silence without codes
    return torch.stack([nac.delay(item, fill=size) for item in codes])


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(size + 1, WIDTH) for _ in range(CODEBOOKS))
        self.recurrent = nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.heads = nn.Linear(WIDTH, CODEBOOKS * (size + 1))

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        """Predict from steps [batch, codebooks, n] the logits of the next ones [batch, tokens, codebooks, n]."""
        summed = sum(embed(steps[:, book]) for book, embed in enumerate(self.embeddings))
        logits = self.heads(self.recurrent(summed)[0]).unflatten(-1, (CODEBOOKS, size + 1))
        return logits.permute(0, 3, 2, 1)


model = Model()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
# More workers read more shards in parallel. For a URL, add multiprocessing_context="spawn".
loader = DataLoader(data, batch_size=8, num_workers=1, persistent_workers=True)
for epoch in range(EPOCHS):
    data.set_epoch(epoch)  # changes the order
    losses = []
    for codes in loader:
        steps = tokens(codes)
        loss = nn.functional.cross_entropy(model(steps[..., :-1]), steps[..., 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(f"epoch {epoch}: {len(losses)} batches, {sum(losses) / len(losses):.2f} nats per token")
