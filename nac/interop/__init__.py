"""Files of other codecs: EnCodec's .ecdc, Descript's .dac and Lyra's .lyra, read and written as codes.

Each module reads one format to a :class:`nac.interop.recording.Recording` and writes it from one. None needs a
model or PyTorch.
"""
