"""PURE. What a request cannot have: an error is an answer with a status, and a text without paths or patient data."""

from __future__ import annotations

from listener.errors import ListenerError


class Refused(ListenerError):
    """The request cannot be answered."""

    status = 400

    def __init__(self, detail: str = "", fields: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(detail)
        self.detail = detail or (type(self).__doc__ or "").splitlines()[0].rstrip(".")
        self.fields = fields


class BadRequest(Refused):
    """The request is not as DICOMweb says."""


class Unauthorized(Refused):
    """A token is wanted: Authorization: Bearer TOKEN."""

    status = 401


class NotFound(Refused):
    """There is no such resource."""

    status = 404


class NotAllowed(Refused):
    """Resources are only read here: GET, HEAD or OPTIONS."""

    status = 405


class NotAcceptable(Refused):
    """The resource is not to be had in this form."""

    status = 406


class RangeOutside(Refused):
    """The range lies outside of the resource."""

    status = 416


class TooMany(Refused):
    """There are too many requests of yours at once."""

    status = 429


class Busy(Refused):
    """It cannot be answered now; try again."""

    status = 503
