"""Load batches of samples for training from a folder of .nac files, with several workers.

python torch_loader.py folder

To train on codes instead of samples, use nac.Dataset: see train_tokens.py.
"""

import sys
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

import nac

SECONDS, RATE = 0.5, 16000


class Crops(Dataset[torch.Tensor]):
    """Half a second of each recording, [channels, samples], from a random position each time."""

    def __init__(self, folder: str) -> None:
        self.paths = sorted(Path(folder).rglob("*.nac"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, item: int) -> torch.Tensor:
        with nac.open(self.paths[item]) as file:  # the model stays loaded in each worker
            length = round(SECONDS * file.sample_rate)
            file.seek(int(torch.randint(max(1, len(file) - length), ())))
            return torch.from_numpy(file.read(length)).T


if __name__ == "__main__":  # workers import this file again
    loader = DataLoader(Crops(sys.argv[1]), batch_size=2, shuffle=True, num_workers=2)
    for batch in loader:
        print(f"a batch of {tuple(batch.shape)}, level {batch.std():.3f}")
