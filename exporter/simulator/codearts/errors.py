"""Errors of the Pipeline service of CodeArts, which stands behind the gateway."""

from exporter.simulator.http.answers import DeclinedError


def service_error(code: str, text: str, status: int = 200) -> DeclinedError:
    """Return an error of the Pipeline service, which usually has HTTP status 200."""
    return DeclinedError(status, {"error_code": code, "error_msg": text})


def unparsed(expected: str) -> DeclinedError:
    """Return the error for a body that does not have the form that the operation expects."""
    text = f"Failed to parse the request data: {expected} is expected"
    return service_error("PARSE_REQUEST_DATA_EXCEPTION", text, 400)


def no_project() -> DeclinedError:
    """Return the error for a project that does not exist, or of which the user is not a member."""
    return service_error("DEVPIPE.00011412", "The project does not exist")


def no_pipeline() -> DeclinedError:
    """Return the error for a pipeline that does not exist."""
    return service_error("DEVPIPE.00011401", "The pipeline does not exist")


def no_run() -> DeclinedError:
    """Return the error for a run that does not exist; the code is invented, because the vendor's is unknown."""
    return service_error("DEVPIPE.00011402", "The pipeline run does not exist")


def mismatch() -> DeclinedError:
    """Return the error for a pipeline that does not belong to the project."""
    return service_error("DEVPIPE.00011136", "项目ID和流水线不匹配")


def invalid_parameter(name: str, expected: str) -> DeclinedError:
    """Return the error of CodeArts Req for a query parameter; the code is invented, because the vendor's is unknown."""
    return service_error("PM.02170001", f"The parameter {name} is invalid: {expected} is expected", 400)
