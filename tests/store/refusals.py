"""What a call raised, without its traceback: that would keep half-read files open until a later test."""

import gc

import pytest


def refusal_of(call, *arguments):
    """Type and text of the exception that the call raises."""
    with pytest.raises(Exception) as caught:
        call(*arguments)
    refusal = caught.type, str(caught.value)
    del caught
    gc.collect()
    return refusal
