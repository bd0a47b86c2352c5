"""What several families are built of: convolutions, LSTM, quantisers, and the kernels that compute them."""
