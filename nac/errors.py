"""What can go wrong for a user: every such error is a :class:`NacError` whose text is one line."""


class NacError(Exception):
    """An error that the user can cause and mend. Its message is one line, without the file's name."""


class FormatError(NacError):
    """Bytes that are not a .nac file, or that this version cannot read."""


class DamageError(FormatError):
    """A .nac file whose bytes are not those that were written."""


class AudioError(NacError):
    """Audio that cannot be read or written."""


class ModelError(NacError):
    """A model that is unknown, or whose weights are absent, wrong, or not those a file was made with."""
