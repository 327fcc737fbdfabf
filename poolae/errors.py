"""The one exception that poolae raises for something its user can mend."""


class UserError(Exception):
    """A sentence that names the file or value at fault and what to do about it.

    Commands print the sentence alone and exit non-zero; in a notebook it is
    the last line of the traceback.
    """
