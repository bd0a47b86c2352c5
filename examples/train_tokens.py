"""A toy language model of codes, trained from shards: how a DataLoader, workers and patterns go together.

nac compress -r recordings -o archive && nac pack archive -o shards && python train_tokens.py shards

Each step of MusicGen's delay pattern has one token of every codebook; a GRU predicts the next step. For SNAC,
whose codebooks have different rates, take nac.flatten in place of nac.delay, and a model of one token a step.
"""

import sys

import torch
from torch import nn
from torch.utils.data import DataLoader

import nac

CODEBOOKS, SECONDS, EPOCHS, WIDTH = 3, 1.0, 4, 64

torch.manual_seed(0)
data = nac.Dataset(sys.argv[1], seconds=SECONDS, codebooks=CODEBOOKS, shuffle=1000, seed=0)
size = 1 << data.spec.codebooks[0].bits  # tokens of a codebook; the next one fills what the delay leaves empty
print(f"{data.spec.name}: crops of {data.frames} frames, {CODEBOOKS} codebooks of {size} codes")


def tokens(codes: torch.Tensor) -> torch.Tensor:
    """Crops [batch, codebooks, frames] as steps [batch, codebooks, frames + codebooks - 1]."""
    codes = codes.where(codes >= 0, size)  # -1 stands for silence that was not coded
    return torch.stack([nac.delay(item, fill=size) for item in codes])


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(size + 1, WIDTH) for _ in range(CODEBOOKS))
        self.recurrent = nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.heads = nn.Linear(WIDTH, CODEBOOKS * (size + 1))

    def forward(self, steps: torch.Tensor) -> torch.Tensor:
        """Steps [batch, codebooks, n] to logits of the next ones [batch, tokens, codebooks, n]."""
        summed = sum(embed(steps[:, book]) for book, embed in enumerate(self.embeddings))
        logits = self.heads(self.recurrent(summed)[0]).unflatten(-1, (CODEBOOKS, size + 1))
        return logits.permute(0, 3, 2, 1)


model = Model()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
# More workers read more shards at once; they stay for all epochs. From a URL, multiprocessing_context="spawn".
loader = DataLoader(data, batch_size=8, num_workers=1, persistent_workers=True)
for epoch in range(EPOCHS):
    data.set_epoch(epoch)  # another order in each
    losses = []
    for codes in loader:
        steps = tokens(codes)
        loss = nn.functional.cross_entropy(model(steps[..., :-1]), steps[..., 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    print(f"epoch {epoch}: {len(losses)} batches, {sum(losses) / len(losses):.2f} nats a token")
