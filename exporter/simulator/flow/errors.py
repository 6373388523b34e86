"""The errors of Flow, in the form of both generations of its API.

Documented texts are the vendor's; where a text is not documented, the nearest documented one is used.
"""

import enum
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ApiErrorResponse:
    """An error: its usual HTTP status, its code and its text."""

    status: int
    code: str
    text: str

    def gateway_body(self, request_id: str, host: str) -> dict[str, Any]:
        """Return the body in which the gateway of the signed generation reports the error."""
        return {
            "RequestId": request_id,
            "Message": self.text,
            "Recommend": f"https://api.example.com/troubleshoot?q={self.code}&product=devops",
            "HostId": host,
            "Code": self.code,
        }

    def envelope_body(self, request_id: str) -> dict[str, Any]:
        """Return the body in which the service of the signed generation reports the error."""
        return {
            "requestId": request_id,
            "success": False,
            "errorCode": self.code,
            "errorMessage": self.text,
        }

    def personal_body(self, request_id: str) -> dict[str, Any]:
        """Return the body in which the personal generation reports the error."""
        return {"errorCode": self.code, "errorMessage": self.text, "requestId": request_id}


class Problem(enum.Enum):
    """A problem with an authenticated request; its value is the error of the signed and of the personal generation."""

    NOT_REGISTERED = (
        ApiErrorResponse(
            400,
            "InvalidUser.NotFound",
            "The user that is invoking the API service is not a registered user.",
        ),
        ApiErrorResponse(403, "Forbidden", "The user is not a registered user."),
    )
    NOT_A_MEMBER = (
        ApiErrorResponse(
            403,
            "Forbidden.UserNotInCurrentOrganization",
            "The user is not in the organization and is not authorized to perform the operation.",
        ),
        ApiErrorResponse(
            403,
            "Forbidden.InvalidUser.UserNotInCurrentOrganization",
            "The user is not in the current organization.",
        ),
    )
    NO_ORGANIZATION = (
        ApiErrorResponse(404, "InvalidOrganization.NotFound", "The organization is not found."),
        ApiErrorResponse(
            403, "Forbidden.InvalidOrganizationMember", "The user is not a member of the organization."
        ),
    )
    NO_PIPELINE = (
        ApiErrorResponse(404, "InvalidPipeline.NotFound", "The pipeline is not found."),
        ApiErrorResponse(404, "NotFound", "Not Found"),
    )
    NO_RUN = (
        ApiErrorResponse(404, "InvalidPipelineRun.NotFound", "The pipeline execution instance is not found."),
        ApiErrorResponse(404, "NotFound", "Not Found"),
    )
    BAD_PARAMETER = (
        ApiErrorResponse(400, "InvalidParam.ParamNotPresent", "The parameter is invalid."),
        ApiErrorResponse(400, "BadRequest", "Bad Request"),
    )
    FORBIDDEN = (
        ApiErrorResponse(403, "Forbidden.RAM", "User not authorized to operate on the specified resource."),
        ApiErrorResponse(403, "Forbidden", "Forbidden"),
    )
    BROKEN = (
        ApiErrorResponse(
            500, "InternalError", "The request processing has failed due to some unknown error."
        ),
        ApiErrorResponse(500, "InternalServerError", "Internal Server Error"),
    )

    @property
    def signed(self) -> ApiErrorResponse:
        """The error of the signed generation."""
        return self.value[0]

    @property
    def personal(self) -> ApiErrorResponse:
        """The error of the personal generation."""
        return self.value[1]


class ProblemError(Exception):
    """Raised by code of both generations for a problem; each generation turns it into its own error response."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


# Errors of the gateway of the signed generation.
NO_API = ApiErrorResponse(
    404, "InvalidApi.NotFound", "Specified api is not found, please check your url and method."
)
TOO_LARGE = ApiErrorResponse(413, "RequestEntityTooLarge", "The request body is too large.")
INCOMPLETE = ApiErrorResponse(
    400, "IncompleteSignature", "The request signature does not conform to Aliyun standards."
)
BAD_VERSION = ApiErrorResponse(400, "InvalidVersion", "Specified parameter Version is not valid.")
BAD_DATE = ApiErrorResponse(
    400, "InvalidTimeStamp.Format", "Specified time stamp or date value is not well formatted."
)
OLD_DATE = ApiErrorResponse(400, "InvalidTimeStamp.Expired", "Specified time stamp or date value is expired.")
NONCE_USED = ApiErrorResponse(400, "SignatureNonceUsed", "Specified signature nonce was used already.")
UNKNOWN_KEY = ApiErrorResponse(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found.")
INACTIVE_KEY = ApiErrorResponse(
    400,
    "InvalidAccessKeyId.Inactive",
    "The specified access key is disabled and can not be used temporarily.",
)
NO_SECURITY_TOKEN = ApiErrorResponse(
    400, "MissingSecurityToken", "SecurityToken is mandatory for this action."
)
WRONG_SECURITY_TOKEN = ApiErrorResponse(
    400,
    "InvalidSecurityToken.MismatchWithAccessKey",
    "Specified SecurityToken mismatch with the AccessKey.",
)
OLD_SECURITY_TOKEN = ApiErrorResponse(
    400, "InvalidSecurityToken.Expired", "Specified SecurityToken is expired."
)

# Errors of the gateway of the personal generation.
NO_PATH = ApiErrorResponse(404, "NotFound", "Not Found")
NO_TOKEN = ApiErrorResponse(401, "Unauthorized", "Unauthorized")
WRONG_TOKEN = ApiErrorResponse(401, "InvalidTokenError", "The token is invalid.")
OLD_TOKEN = ApiErrorResponse(401, "ExpiredTokenError", "The token is expired.")
TOO_MANY = ApiErrorResponse(429, "TooManyRequests", "Too many requests")


def missing(parameter: str) -> ApiErrorResponse:
    """Return the error for a missing header; `parameter` is its name in error messages."""
    return ApiErrorResponse(400, f"Missing{parameter}", f"{parameter} is mandatory for this action.")


def mismatch(string_to_sign: str, canonical: bytes) -> ApiErrorResponse:
    """Return the error for a wrong signature, which quotes what the client should have signed."""
    request = canonical.decode("utf-8", "replace")
    text = (
        "Specified signature is not matched with our calculation. "
        f"server StringToSign is [{string_to_sign}], server CanonicalRequest is [{request}]"
    )
    return ApiErrorResponse(400, "SignatureDoesNotMatch", text)


def throttled(code: str) -> ApiErrorResponse:
    """Return the error for too many requests, with one of the signed generation's codes."""
    return ApiErrorResponse(400, code, "Request was denied due to user flow control.")
