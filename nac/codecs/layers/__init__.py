"""Layers used by several families: convolutions, LSTM, quantisers, and the kernels that compute them."""
