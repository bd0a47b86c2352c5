#!/bin/sh
# Compress two real recordings, bring them back, and show sizes, bitrates and speeds.
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
done
nac verify ./*.nac
nac info guitar-6.nac
echo "Listen: demo/speech.flac against demo/speech-6.wav and demo/speech-3.wav; the guitar likewise."
