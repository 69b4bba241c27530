"""`imprint gateway`: is a gateway's TLS as a device needs it?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
from cryptography import x509

from imprint_tools import chain_check, gateway_check
from imprint_tools.chain_check import Finding
from imprint_tools.cli.output import emit, json_option
from imprint_tools.gateway_check import Port

_TARGET = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^:\[\]/\s]+))(?::(?P<port>\d+))?")
_TIMEOUT_MAX_S = 120.0


class _TargetType(click.ParamType):  # type: ignore[type-arg]  # not generic in click 8.1
    """HOST, HOST:PORT or [IPv6]:PORT."""

    name = "target"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int | None]:
        if isinstance(value, tuple):
            return value
        found = _TARGET.fullmatch(str(value))
        port = int(found["port"]) if found and found["port"] else None
        if not found or (port is not None and not 0 < port < 1 << 16):
            self.fail(f"{value!r} is not HOST, HOST:PORT or [IPv6]:PORT", param, ctx)
        return found["v6"] or found["host"], port


@click.group()
def gateway() -> None:
    """Gateways between devices and their cloud."""


@gateway.command()
@click.argument("target", metavar="HOST[:PORT]", type=_TargetType())
@click.option(
    "--ca",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="The root CA that devices are given, PEM or DER.",
)
@click.option("--address", help="Dial this address; the certificate must still be for HOST.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0.1, _TIMEOUT_MAX_S),
    default=gateway_check.TIMEOUT_S,
    show_default=True,
    help="Seconds for connecting, and for the handshake.",
)
@json_option
@click.pass_context
def check(
    ctx: click.Context,
    target: tuple[str, int | None],
    ca: Path,
    address: str | None,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Connect, show the chain, verify it and HOST's name, and name the cause of a failure.

    Without PORT it looks at 8883, 443 and 5671, and the exit status is that of 8883, which boards
    use. Nothing but a TLS handshake is sent. docs/errors.md lists the exit statuses.
    """
    host, port = target
    ports = gateway_check.check(
        host, [port] if port else list(gateway_check.SERVICES), chain_check.load_anchors(ca),
        address=address, timeout_s=timeout_s,
    )  # fmt: skip
    status = ports[0].findings[0].exit_status if ports[0].findings else 0
    lines = [line for one in ports for line in _lines(host, one)]
    emit(
        {"host": host, "exit_status": status, "ports": [_record(one) for one in ports]},
        "\n".join(lines),
        as_json=as_json,
    )
    ctx.exit(status)


def _lines(host: str, port: Port) -> list[str]:
    where = ", ".join(filter(None, (port.address, port.protocol)))
    lines = [f"{host}:{port.number} ({port.service}){': ' * bool(where)}{where}"]
    for number, one in enumerate(port.chain):
        names = ", ".join(chain_check.alternative_names(one))
        lines.append(
            f"  {number} {chain_check.subject(one)}, by {one.issuer.rfc4514_string()}, "
            f"{one.not_valid_before_utc:%Y-%m-%d} to {one.not_valid_after_utc:%Y-%m-%d}, "
            f"{chain_check.describe_key(one)}" + (f", for {names}" if names else "")
        )
    for finding in port.findings:
        lines.append(f"  {finding.cause}: {finding.about}")
        lines.append(f"    next: {finding.next_step}")
    if not port.findings:
        lines.append("  ok: chain, dates, name, key usage; the server holds its key")
    if port.wants_client:
        lines.append("  the server demands a client certificate")
    return lines


def _record(port: Port) -> dict[str, Any]:
    return {
        "port": port.number,
        "service": port.service,
        "address": port.address or None,
        "protocol": port.protocol or None,
        "ok": not port.findings,
        "wants_client_certificate": port.wants_client,
        "chain": [_certificate(one) for one in port.chain],
        "findings": [_finding(one) for one in port.findings],
    }


def _certificate(one: x509.Certificate) -> dict[str, Any]:
    return {
        "subject": one.subject.rfc4514_string(),
        "issuer": one.issuer.rfc4514_string(),
        "not_before": one.not_valid_before_utc.isoformat(),
        "not_after": one.not_valid_after_utc.isoformat(),
        "key": chain_check.describe_key(one),
        "names": chain_check.alternative_names(one),
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "cause": finding.cause,
        "exit_status": finding.exit_status,
        "message": finding.about,
        "next_step": finding.next_step,
    }
