"""`imprint ca`: the factory's own authorities, and the certificates of units and servers."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from imprint_tools import certificates, issuer, issuer_output, issuer_store, trust_store
from imprint_tools.cli.output import emit, json_option, note
from imprint_tools.cli.types import PassphraseSource, passphrase_option
from imprint_tools.errors import IssueError
from imprint_tools.issuer import Authority
from imprint_tools.issuer_output import Written
from imprint_tools.issuer_store import Entry

_F = TypeVar("_F", bound=Callable[..., Any])

_folder = click.Path(file_okay=False, path_type=Path)
_file = click.Path(exists=True, dir_okay=False, path_type=Path)
_authority_argument = click.argument(
    "authority", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
_ENCODINGS = {"pem": Encoding.PEM, "der": Encoding.DER}


def _days_option(default: int) -> Callable[[_F], _F]:
    return click.option(
        "--days", type=click.IntRange(min=1), default=default, show_default=True, help="Lifetime."
    )


def _key_option(function: _F) -> _F:
    return click.option(
        "--key",
        "key_type",
        type=click.Choice(list(certificates.KEY_TYPES)),
        default="ec",
        show_default=True,
        help="; ".join(f"{name}: {what}" for name, what in certificates.KEY_TYPES.items()) + ".",
    )(function)


def _output_options(function: _F) -> _F:
    """Where the files of a certificate go, and what they are made of."""
    for option in (
        click.option(
            "--format",
            "encoding",
            type=click.Choice(list(_ENCODINGS)),
            default="pem",
            show_default=True,
            help="pem: the chain and the key; der: the certificate alone and the key.",
        ),
        click.option(
            "-o", "--output", type=_folder, required=True, help="The folder that gets the files."
        ),
        click.option(
            "--renew", is_flag=True, help="Although there is a live one for another key."
        ),
        click.option("--csr", type=_file, help="A PKCS#10 request, PEM or DER; no key is made."),
    ):
        function = option(function)
    return function


@click.group()
def ca() -> None:
    """Authorities in folders of their own: issue, renew, revoke.

    An authority's key is encrypted with a passphrase, which comes from a file, the environment or
    a prompt. A unit's certificate is for TLS clients and has the registration id as its name.
    """


@ca.command()
@click.argument("folder", type=_folder)
@click.option("--name", required=True, help="The authority's name.")
@_days_option(issuer.ROOT_DAYS)
@_key_option
@passphrase_option()
@json_option
def root(
    folder: Path, name: str, days: int, key_type: str, passphrase: PassphraseSource, as_json: bool
) -> None:
    """Make a root authority in FOLDER. Keep it where no station reaches it."""
    issuer_store.refuse_existing(folder)
    secret = passphrase.load("New passphrase", confirm=True)
    with Authority.create_root(folder, name, secret, days=days, key_type=key_type) as made:
        _show_authority(made, as_json=as_json)


@ca.command()
@click.argument("folder", type=_folder)
@click.option(
    "--issuer",
    "above",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="The folder of the authority above.",
)
@click.option("--name", required=True, help="The authority's name.")
@_days_option(issuer.INTERMEDIATE_DAYS)
@_key_option
@passphrase_option()
@passphrase_option("--issuer-passphrase", "IMPRINT_CA_ISSUER_PASSPHRASE", "the upper")
@json_option
def intermediate(
    folder: Path,
    above: Path,
    name: str,
    days: int,
    key_type: str,
    passphrase: PassphraseSource,
    issuer_passphrase: PassphraseSource,
    as_json: bool,
) -> None:
    """Make an authority in FOLDER below another: the one that a factory line works with."""
    issuer_store.refuse_existing(folder)
    with Authority.open(above, issuer_passphrase.load(f"Passphrase of {above}")) as upper:
        secret = passphrase.load("New passphrase", confirm=True)
        with upper.create_intermediate(folder, name, secret, days=days, key_type=key_type) as made:
            _show_authority(made, as_json=as_json)


@ca.command()
@_authority_argument
@click.argument("registration_id")
@_output_options
@_days_option(issuer.LEAF_DAYS)
@_key_option
@passphrase_option()
@json_option
def leaf(
    authority: Path,
    registration_id: str,
    output: Path,
    passphrase: PassphraseSource,
    csr: Path | None,
    encoding: str,
    as_json: bool,
    **how: Any,
) -> None:
    """Issue a unit's certificate, for a request or for a key that is made here."""
    issuer.check_registration_id(registration_id)
    with _open(authority, passphrase) as opened:
        written = issuer_output.leaf(
            opened, registration_id, output,
            csr=_read(csr), encoding=_ENCODINGS[encoding], **how,
        )  # fmt: skip
    _show_written(written, as_json=as_json)


@ca.command()
@_authority_argument
@click.argument("names", nargs=-1, required=True)
@_output_options
@_days_option(issuer.SERVER_DAYS)
@_key_option
@passphrase_option()
@json_option
def server(
    authority: Path,
    names: tuple[str, ...],
    output: Path,
    passphrase: PassphraseSource,
    csr: Path | None,
    encoding: str,
    as_json: bool,
    **how: Any,
) -> None:
    """Issue a server's certificate for host NAMES and addresses."""
    with _open(authority, passphrase) as opened:
        written = issuer_output.server(
            opened, names, output, csr=_read(csr), encoding=_ENCODINGS[encoding], **how
        )
    _show_written(written, as_json=as_json)


@ca.command()
@_authority_argument
@click.argument("serial")
@click.option("--csr", type=_file, help="A request with a new key; without it the key stays.")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True)
@_days_option(issuer.LEAF_DAYS)
@passphrase_option()
@json_option
def renew(
    authority: Path,
    serial: str,
    csr: Path | None,
    output: Path,
    days: int,
    passphrase: PassphraseSource,
    as_json: bool,
) -> None:
    """Issue a successor of a unit's certificate; the old one stays valid to its end."""
    with _open(authority, passphrase) as opened:
        issued = opened.renew(serial, csr=_read(csr), days=days)
    _write(output, issued.chain_pem)
    _show_written(Written(issued, output, None), as_json=as_json)


@ca.command()
@_authority_argument
@click.argument("serial")
@click.option(
    "--reason", type=click.Choice(issuer.REASONS), default="unspecified", show_default=True
)
@passphrase_option()
@json_option
def revoke(
    authority: Path, serial: str, reason: str, passphrase: PassphraseSource, as_json: bool
) -> None:
    """Revoke the certificate with that SERIAL number. Then publish a new list: imprint ca crl."""
    with _open(authority, passphrase) as opened:
        entry = opened.revoke(serial, reason)
    emit(_entry_record(entry), f"{entry.name} revoked: {entry.serial} ({reason})", as_json=as_json)


@ca.command()
@_authority_argument
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--days", type=click.IntRange(min=1), default=issuer.CRL_DAYS, show_default=True)
@click.option("--der", is_flag=True, help="DER, as most servers that fetch one expect it.")
@passphrase_option()
@json_option
def crl(
    authority: Path,
    output: Path,
    days: int,
    der: bool,
    passphrase: PassphraseSource,
    as_json: bool,
) -> None:
    """Write the list of revoked certificates."""
    with _open(authority, passphrase) as opened:
        made = opened.crl(days=days)
    _write(output, made.public_bytes(Encoding.DER if der else Encoding.PEM))
    number = made.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    until = made.next_update_utc
    emit(
        {
            "file": str(output),
            "number": number,
            "revoked": len(made),
            "next_update": until.isoformat() if until else None,
        },
        f"list {number} with {len(made)} revoked certificates written to {output}",
        as_json=as_json,
    )


@ca.command()
@_authority_argument
@click.argument("code")
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True)
@passphrase_option()
@json_option
def verification(
    authority: Path, code: str, output: Path, passphrase: PassphraseSource, as_json: bool
) -> None:
    """Prove to a cloud that the authority is ours: certify the CODE that it gave."""
    with _open(authority, passphrase) as opened:
        issued = opened.issue_verification(code)
    _write(output, issued.pem)
    _show_written(Written(issued, output, None), as_json=as_json)


@ca.command()
@_authority_argument
@passphrase_option()
@passphrase_option("--new-passphrase", "IMPRINT_CA_NEW_PASSPHRASE", "from now on the")
@json_option
def passphrase(
    authority: Path,
    passphrase: PassphraseSource,
    new_passphrase: PassphraseSource,
    as_json: bool,
) -> None:
    """Change an authority's passphrase. Copies of its folder keep the old one."""
    with _open(authority, passphrase) as opened:
        opened.change_passphrase(new_passphrase.load("New passphrase", confirm=True))
    emit({"folder": str(authority)}, f"{authority} has a new passphrase", as_json=as_json)


@ca.command()
@click.argument("folder", type=_folder)
@click.option("--gateway", required=True, help="The gateway's device id.")
@click.option("--hostname", required=True, help="`hostname` of the gateway's config.toml.")
@_days_option(issuer_output.EDGE_DAYS)
@_key_option
@passphrase_option()
@json_option
def edge(
    folder: Path,
    gateway: str,
    hostname: str,
    days: int,
    key_type: str,
    passphrase: PassphraseSource,
    as_json: bool,
) -> None:
    """Make the hierarchy of an IoT Edge gateway under test: root to server certificate.

    For tests only: the root of a plant stays in another place than its gateways.
    """
    issuer_store.refuse_existing(folder)
    files = issuer_output.edge_hierarchy(
        folder, gateway, hostname, passphrase.load("New passphrase", confirm=True),
        days=days, key_type=key_type,
    )  # fmt: skip
    named = {name: str(path) for name, path in vars(files).items()}
    emit(named, "\n".join(f"{name:<16} {path}" for name, path in named.items()), as_json=as_json)


@ca.command()
@_authority_argument
@click.option("--name", help="Only what was issued to this id or name.")
@json_option
def show(authority: Path, name: str | None, as_json: bool) -> None:
    """Show an authority and what it issued; needs no passphrase."""
    held = issuer_store.load(authority)
    record = issuer_store.Record(authority)
    try:
        entries = record.entries(name)
    finally:
        record.close()
    own = [_certificate_record(one) for one in (held.certificate, *held.issuers)]
    lines = [*map(_line, own), f"{len(entries)} issued"]
    now = certificates.utc_now()
    lines += [f"  {_line(_entry_record(entry))}  {_state(entry, now)}" for entry in entries]
    emit(
        {"chain": own, "issued": [_entry_record(entry) for entry in entries]},
        "\n".join(lines),
        as_json=as_json,
    )


@ca.command()
@click.argument("file", type=_file)
@click.option("--remove", is_flag=True, help="Take it out of the store again.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@json_option
def install(file: Path, remove: bool, dry_run: bool, as_json: bool) -> None:
    """Put the root CA in FILE into this machine's own store (Debian, Ubuntu).

    Programs that verify servers with OpenSSL then trust what it signs. Needs root.
    """
    what = trust_store.plan(file, remove=remove)
    if not as_json:
        for step in what.steps:
            note(f"{'would ' * dry_run}{step}")
    if not dry_run:
        trust_store.carry_out(what, file)
    done = f"nothing to do: {what.target} is {'gone' if remove else 'there'}"
    if what.steps:
        done = "nothing done" if dry_run else ("removed" if remove else "installed")
    record = {
        **_certificate_record(what.root),
        "file": str(what.target),
        "steps": list(what.steps),
        "done": bool(what.steps) and not dry_run,
    }
    emit(record, f"{record['name']}: {done}", as_json=as_json)


def _open(authority: Path, passphrase: PassphraseSource) -> Authority:
    return Authority.open(authority, passphrase.load(f"Passphrase of {authority}"))


def _read(csr: Path | None) -> bytes | None:
    return None if csr is None else csr.read_bytes()


def _write(path: Path, data: bytes) -> None:
    try:
        issuer_store.write(path, data)
    except OSError as error:
        raise IssueError(f"{path} cannot be written: {error.strerror}") from None


def _show_authority(made: Authority, *, as_json: bool) -> None:
    record = {**_certificate_record(made.certificate), "folder": str(made.path)}
    emit(record, f"{_line(record)}\nin {made.path}", as_json=as_json)


def _show_written(written: Written, *, as_json: bool) -> None:
    record = {
        **_certificate_record(written.issued.certificate),
        "certificate_file": str(written.certificate),
        "key_file": str(written.key) if written.key else None,
    }
    files = ", ".join(str(path) for path in (written.certificate, written.key) if path)
    emit(record, f"{_line(record)}\nwritten to {files}", as_json=as_json)


def _certificate_record(certificate: x509.Certificate) -> dict[str, Any]:
    names = certificates.common_names(certificate.subject)
    return {
        "name": names[0] if names else certificate.subject.rfc4514_string(),
        "serial": issuer_store.serial_text(certificate),
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
        "sha256": certificate.fingerprint(hashes.SHA256()).hex(),
    }


def _entry_record(entry: Entry) -> dict[str, Any]:
    return {
        **_certificate_record(entry.certificate),
        "kind": entry.kind,
        "revoked_at": entry.revoked_at.isoformat() if entry.revoked_at else None,
        "reason": entry.reason or None,
    }


def _line(record: dict[str, Any]) -> str:
    until = record["not_after"].partition("T")[0]
    return f"{record['name']:<24} {record['serial']}  until {until}"


def _state(entry: Entry, now: datetime.datetime) -> str:
    if entry.revoked_at is not None:
        return f"revoked {entry.revoked_at:%Y-%m-%d}: {entry.reason}"
    return entry.kind if entry.live(now) else f"{entry.kind}, ended"
