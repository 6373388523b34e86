"""What to do about a project that is down, by heading of docs/troubleshooting.md. The page has the same sentences."""

REMEDIES = {
    "no-response": (
        "Check network, DNS, firewall and proxy between the exporter and the host in the error. "
        "With code=timeout raise poll.timeout."
    ),
    "provider-fails": (
        "See the status page of the vendor, and check proxies. "
        "If it lasts, send request_id to the vendor's support."
    ),
    "provider-throttles": (
        "Lower rate_limit, raise poll.interval, or use a user of its own for the exporter: "
        "other programs of the same user count too."
    ),
    "credentials-rejected": (
        "Replace the token, key or password. A changed secret file is used by the next poll, without a restart."
    ),
    "credentials-missing": (
        "Check that the file of the secret exists, is not empty, and that the exporter may read it."
    ),
    "project-refused": (
        "Make the user a member who may read pipelines, and compare the configured ids with those of the vendor."
    ),
    "requests-refused": (
        "Check the ids of pipelines: do they belong to this project? pipeline-exporter discover lists them."
    ),
    "responses-unreadable": "Check endpoint and proxies.",
    "implausible-list": (
        "Check that the user is still a member of the project and may read its pipelines. "
        "If they were deleted, the exporter drops them after three lists that agree."
    ),
}
