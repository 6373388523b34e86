"""Network checks of a provider: name resolution, TLS, and the expiry of its certificate. No request is sent."""

import contextlib
import ipaddress
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from exporter.app.cloud_access import LOOPBACK
from exporter.app.doctor.checks import Check, CheckState, Name, entry, fault, ok, warning
from exporter.client.reachability import UnreachableError, UntrustedError, certificate_end, resolve
from exporter.providers.registry import AnyProject

SOON = 14
"""Days before the expiry of a certificate from which the check is a warning."""
_DAY = 86_400.0


async def check_network(project: AnyProject, base_url: str, *, timeout: float, now: float) -> list[Check]:
    """Return the checks of the way to a service of the provider of a project; `now` is in Unix seconds."""
    url = urlsplit(base_url)
    proxy = _proxy(project, url)
    target = url if proxy is None else proxy
    resolution = await _resolution(target.hostname or "", timeout, via_proxy=proxy is not None)
    if resolution.state is CheckState.FAULT:
        return [resolution]
    if url.scheme == "http":
        return [resolution, _without_tls(url)]
    if proxy is not None:
        detail = "not checked, the connection leads through a proxy"
        return [resolution, ok(Name.TLS, detail)]
    return [resolution, await _tls(project, url, timeout, now)]


def _proxy(project: AnyProject, url: SplitResult) -> SplitResult | None:
    """Return the URL of the proxy to the provider; None for a direct connection."""
    if url.hostname in LOOPBACK:
        return None
    if project.proxy is not None:
        return urlsplit(project.proxy.reveal())
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all", "")
    if not proxy or proxy_bypass(url.netloc):
        return None
    return urlsplit(proxy if "://" in proxy else f"http://{proxy}")


async def _resolution(host: str, timeout: float, *, via_proxy: bool) -> Check:
    role = "proxy " if via_proxy else ""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return ok(Name.RESOLUTION, f"{role}{host} is an address")
    try:
        addresses = await resolve(host, timeout)
    except UnreachableError as error:
        return fault(
            Name.RESOLUTION,
            f"cannot resolve {role}{host}: {error}",
            f"check the name server, and endpoint or region; {entry('no-response')}",
        )
    return ok(Name.RESOLUTION, f"{role}{host} resolves to {', '.join(addresses)}")


def _without_tls(url: SplitResult) -> Check:
    if url.hostname in LOOPBACK:
        return ok(Name.TLS, "not used, the endpoint is on this machine")
    return warning(
        Name.TLS, "the endpoint is http: credentials and data are sent in plain text", "use https in endpoint"
    )


async def _tls(project: AnyProject, url: SplitResult, timeout: float, now: float) -> Check:
    verify = not project.tls.insecure_skip_verify
    host, port = url.hostname or "", url.port or 443
    try:
        end = await certificate_end(host, port, timeout, ca_file=project.tls.ca_file, verify=verify)
    except UntrustedError as error:
        return fault(
            Name.TLS,
            f"the certificate of {host} is not trusted: {error}",
            "set tls.ca_file to the authority of the endpoint or proxy, or correct the clock of this machine",
        )
    except UnreachableError as error:
        return fault(
            Name.TLS,
            f"no TLS connection to {host} port {port}: {error}",
            f"check firewall and proxy; {entry('no-response')}",
        )
    if end is None:
        return warning(
            Name.TLS, "the certificate is not verified (tls.insecure_skip_verify)", "set tls.ca_file instead"
        )
    days = (end - now) / _DAY
    detail = f"the certificate of {host} ends in {days:.0f} days"
    if days < SOON:
        return warning(
            Name.TLS,
            detail,
            "renew the certificate of the endpoint or proxy; that of a vendor is renewed by the vendor",
        )
    return ok(Name.TLS, detail)
