#!/bin/sh
# Compress every recording below a folder, passing over what is done already, and list sizes as JSON shows them.
#
#     sh compress_folder.sh recordings archive
set -eu
nac compress -r "$1" -o "$2" --kbps 6 --skip-existing --json |
    python3 -c 'import json, sys
for line in sys.stdin:
    row = json.loads(line)
    print("%(input)s: %(seconds).1f s, %(bytes_out)d bytes" % row)'
nac verify "$2"/*.nac
