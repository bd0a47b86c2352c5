#!/bin/sh
# Compress and decompress two recordings: sizes, bitrates, speeds, and a picture of each.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p demo
cd demo
for name in speech guitar; do
    cp "$here/audio/$name.flac" .
    for kbps in 3 6; do
        nac compress -f "$name.flac" --kbps $kbps -o "$name-$kbps.nac"
        nac decompress -f "$name-$kbps.nac"
    done
    python "$here/spectrograms.py" "$name.png" "$name.flac" "$name-6.wav" "$name-3.wav"
done
nac verify ./*.nac
nac info guitar-6.nac
echo "Listen to demo/speech.flac, speech-6.wav and speech-3.wav, and look at speech.png; the guitar likewise."
