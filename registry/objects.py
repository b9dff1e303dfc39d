"""What an S3 bucket answers when it gives nothing: as our errors, so that who can wait waits, and who asked over HTTP is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

from graftery.errors import StoreError, Unavailable, first_line


@contextmanager
def asked() -> Iterator[None]:
    """Around every request to a bucket; an object that is not there stays a `FileNotFoundError`.

    Raises:
        StoreError: the bucket does not let this service in.
        Unavailable: it does not answer now.
    """
    try:
        yield
    except (PermissionDeniedError, UnauthenticatedError) as error:
        hint = "look at the AWS_ variables of this service, and at what their key may do"
        raise StoreError(f"The bucket does not let this service in: {first_line(error)}", hint=hint) from error
    except BaseError as error:
        hint = "retry in a moment; if it stays, look at AWS_ENDPOINT_URL"
        raise Unavailable(f"The bucket does not answer: {first_line(error)}", hint=hint) from error
