#!/bin/sh
# Compress all recordings in a folder, skip existing outputs, and print sizes from the JSON output.
# Then verify all .nac files.
#
#     sh compress_folder.sh recordings archive
set -eu
nac compress -r "$1" -o "$2" --kbps 6 --keep-ending --skip-existing --json |
    python3 -c 'import json, sys
failed = False
for line in sys.stdin:
    row = json.loads(line)
    if row["error"]:
        failed = True
    elif row["skipped"]:
        print("%(input)s: exists already" % row)
    else:
        print("%(input)s: %(seconds).1f s, %(bytes_out)d bytes" % row)
sys.exit(failed)'
nac verify -r -q "$2"
