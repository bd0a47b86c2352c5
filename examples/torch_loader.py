"""Batches of samples for training, from any number of .nac files and by any number of workers.

python torch_loader.py folder

For codes in place of samples, nac.Dataset does all of this: see train_tokens.py.
"""

import sys
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

import nac

SECONDS, RATE = 0.5, 16000


class Crops(Dataset[torch.Tensor]):
    """Half a second from anywhere in each recording: another one every time, [channels, samples]."""

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
