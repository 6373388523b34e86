"""How the Pipeline service of CodeArts declines what its gateway has let pass."""

from exporter.simulator.http.answers import DeclinedError


def service_error(code: str, text: str, status: int = 200) -> DeclinedError:
    """Make an error of the Pipeline service, which comes with status 200 more often than not."""
    return DeclinedError(status, {"error_code": code, "error_msg": text})


def unparsed(expected: str) -> DeclinedError:
    """Make the error for a body that is not what the operation expects."""
    text = f"Failed to parse the request data: {expected} is expected"
    return service_error("PARSE_REQUEST_DATA_EXCEPTION", text, 400)


def no_project() -> DeclinedError:
    """Make the error for a project that does not exist, or that the user is no member of."""
    return service_error("DEVPIPE.00011412", "The project does not exist")


def no_pipeline() -> DeclinedError:
    """Make the error for a pipeline that does not exist."""
    return service_error("DEVPIPE.00011401", "The pipeline does not exist")


def no_run() -> DeclinedError:
    """Make the error for a run that does not exist; the code is invented, the vendor's being unknown."""
    return service_error("DEVPIPE.00011402", "The pipeline run does not exist")


def mismatch() -> DeclinedError:
    """Make the error for a pipeline that is not of the project."""
    return service_error("DEVPIPE.00011136", "项目ID和流水线不匹配")
