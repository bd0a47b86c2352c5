"""The second reader's part that says where sound lies, written from sections 5 to 7 of formats/nac-v1.md alone."""


def begins(header, chunk):
    """The samples of the timeline at which a chunk's frames begin."""
    length, (per_segment, stride) = header["frame_samples"], header["segment"] or (1, header["frame_samples"])
    frames = range(chunk["first_frame"], chunk["first_frame"] + chunk["frames"])
    found = [frame // per_segment * stride + frame % per_segment * length for frame in frames]
    if chunk["overhang"]:
        found[-1] = (frames[-1] // per_segment + 1) * stride
    return found


def timeline(header, chunks):
    """Where frames begin, where the last one ends, and the spans from which sound is missing."""
    end, missing = header["start"] * header["sample_rate"] / header["original_sample_rate"], []
    found = [begins(header, chunk) for chunk in chunks]
    for row in found:
        if row[0] > end:
            missing.append([end, row[0]])
        end = row[-1] + header["frame_samples"]
    return {"begins": found, "end": end, "missing": missing}


def angle(header, chunks, sample):
    """The angle, modulo 256, by which a pair is rotated at a sample of the timeline."""
    ramp, before = header["sample_rate"] // 50, None
    spans = timeline(header, chunks)
    missing = [high for _, high in spans["missing"]]
    for chunk, row in zip(chunks, spans["begins"], strict=True):
        if row[0] <= sample:
            turn = 0 if before is None or row[0] in missing else (chunk["angle"] - before + 128) % 256 - 128
            left = max(0, ramp - (sample - row[0] + 1))
            found = (chunk["angle"] - turn * left / ramp) % 256
        before = chunk["angle"]
    return found
