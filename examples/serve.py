"""A web server that stores .nac files and sends WAV: whole files, or the parts that a player requests.

python serve.py folder 8000

http://localhost:8000/song.nac is a WAV file; players request the bytes that they need (HTTP ranges), so they can
seek. /song.nac?start=60&duration=10 is a part of ten seconds. Only the requested bytes are decoded, one block at a
time.
"""

import re
import struct
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import nac

FOLDER = Path(sys.argv[1]).resolve()
HEADER = 44


def wav_header(sample_rate: int, channels: int, samples: int) -> bytes:
    """Make the header of a WAV file with 16-bit samples."""
    width, size = 2 * channels, 2 * channels * samples
    form = struct.pack("<HHIIHH", 1, channels, sample_rate, sample_rate * width, width, 16)
    return struct.pack("<4sI8sI", b"RIFF", size + 36, b"WAVEfmt ", 16) + form + struct.pack("<4sI", b"data", size)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        path = (FOLDER / unquote(url.path).lstrip("/")).resolve()
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        if FOLDER not in path.parents or path.suffix != ".nac" or not path.is_file():
            self.send_error(404)
            return
        try:
            file = nac.open(path)
        except nac.NacError as error:
            self.send_error(500, str(error))
            return
        with file:
            try:
                first = file.seek(round(float(query.get("start", 0)) * file.sample_rate))
                samples = round(min(float(query.get("duration", "inf")) * file.sample_rate, len(file) - first))
            except (ValueError, OverflowError) as error:
                self.send_error(400, str(error))
            else:
                self.send_part(file, first, max(0, samples))

    def send_part(self, file: nac.NacFile, first: int, samples: int) -> None:
        """Send ``samples`` samples from ``first`` on as a WAV file, or the requested range of its bytes."""
        width = 2 * file.channels
        size = HEADER + samples * width
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        low, high = (int(wanted[1]), min(int(wanted[2] or size), size - 1)) if wanted else (0, size - 1)
        if low > high:
            self.send_error(416)
            return
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Type", "audio/wav")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(high - low + 1))
        if wanted:
            self.send_header("Content-Range", f"bytes {low}-{high}/{size}")
        self.end_headers()
        self.wfile.write(wav_header(file.sample_rate, file.channels, samples)[low : high + 1])
        begin, end = max(low - HEADER, 0), high + 1 - HEADER  # bytes after the header
        if begin < end:
            skip = begin // width
            file.seek(first + skip)
            for block in file.blocks(1 << 15, frames=-(-end // width) - skip, dtype="int16"):
                data = block.astype("<i2").tobytes()
                self.wfile.write(data[max(begin - skip * width, 0) : end - skip * width])
                skip += len(block)


if __name__ == "__main__":
    with ThreadingHTTPServer(("localhost", int(sys.argv[2])), Handler) as server:
        print(f"http://localhost:{server.server_port}/", flush=True)
        server.serve_forever()
