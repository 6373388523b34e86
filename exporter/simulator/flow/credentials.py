"""What a client must know to be let in by Flow, by one way for each generation of its API."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class FlowCredentials:
    """A key pair, with its security token if it is a temporary one, for signed requests; and a personal token."""

    access_key: str = "LTAI5tSIMULATEDACCESSKEY"
    secret_key: str = field(default="simulated-secret-key-of-no-use-anywhere", repr=False)
    security_token: str | None = field(default=None, repr=False)
    personal_token: str = field(default="pt-simulated-token-of-no-use-anywhere", repr=False)
