"""The certification authority of a factory: issues, renews and revokes certificates.

    from imprint_tools.issuer import Authority

    with Authority.create_root(Path("root"), "Acme root", passphrase) as root:
        root.create_intermediate(Path("line-1"), "Acme line 1", passphrase).close()

    with Authority.open(Path("line-1"), passphrase) as line:
        issued = line.issue_leaf(registration_id="unit-1", csr=pem_or_der)   # a station's own key
        issued.certificate        # cryptography's x509.Certificate
        issued.chain              # (leaf, intermediate, ...) without the root: what TLS sends
        issued.full_chain         # the same with the root
        issued.chain_pem, issued.der, issued.serial

        made = line.issue_leaf(registration_id="unit-2")      # a key made here, kept nowhere
        made.key_pem, made.key_der                            # Secret, PKCS#8, not encrypted

        line.revoke(issued.serial, "key_compromise")
        line.crl()                                            # x509.CertificateRevocationList

An Authority may be shared by threads, and its folder by processes. What `issue_leaf` returns is
in the record, on disk (issuer_store). An id that has a live certificate gets another one for the
same key, so that a station that was killed may ask again; for another key only with `renew=True`.
A key belongs to one id for ever. Every refusal is an IssueError (nothing was issued), every
trouble with the folder or the passphrase an AuthorityError.

The rules for ids are those of Azure's Device Provisioning Service, in which a device's id is its
certificate's common name; they are narrow enough for other clouds.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from imprint_tools import certificates, issuer_store
from imprint_tools.certificates import PrivateKey, PublicKey, Purpose
from imprint_tools.errors import AuthorityError, IssueError
from imprint_tools.issuer_store import Entry
from imprint_tools.secret import Secret

ROOT_DAYS = 7300
INTERMEDIATE_DAYS = 5475
LEAF_DAYS = 3650  # a unit keeps what it was given at the bench
SERVER_DAYS = 365
CRL_DAYS = 30
_VERIFICATION_DAYS = 30

# A unit whose clock is behind must not find a new certificate "not yet valid".
BACKDATE = datetime.timedelta(days=1)

PASSPHRASE_MIN = 16  # PKCS#8 as cryptography writes it stretches a passphrase but little
REASONS = (
    "unspecified", "key_compromise", "ca_compromise", "affiliation_changed", "superseded",
    "cessation_of_operation", "privilege_withdrawn",
)  # fmt: skip

DEVICE, SERVER, AUTHORITY, VERIFICATION = "device", "server", "authority", "verification"

_NAME_MAX = 64  # X.520's upper bound of a common name
_REGISTRATION_ID = re.compile(r"[A-Za-z0-9._:-]{0,63}[A-Za-z0-9-]")
_CSR_MAX = 16 << 10
_PATH_LENGTH = 2  # of a root: an intermediate and the two of an IoT Edge gateway

Clock = Callable[[], datetime.datetime]


@dataclass(frozen=True)
class Issued:
    """A certificate with those above it; with its key where that was made here."""

    certificate: x509.Certificate
    issuers: tuple[x509.Certificate, ...]
    key: PrivateKey | None = None

    @property
    def full_chain(self) -> tuple[x509.Certificate, ...]:
        """The certificate and all above it, the root last."""
        return (self.certificate, *self.issuers)

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """What goes over the wire in TLS: all but the root, which the peer must have."""
        return self.full_chain[:-1]

    @property
    def chain_pem(self) -> bytes:
        return certificates.pem(*self.chain)

    @property
    def full_chain_pem(self) -> bytes:
        return certificates.pem(*self.full_chain)

    @property
    def pem(self) -> bytes:
        return certificates.pem(self.certificate)

    @property
    def der(self) -> bytes:
        return certificates.der(self.certificate)

    @property
    def serial(self) -> str:
        """Hexadecimal, lower case."""
        return issuer_store.serial_text(self.certificate)

    @property
    def key_pem(self) -> Secret:
        """PKCS#8, not encrypted. Raises ValueError where the key was made elsewhere."""
        return certificates.key_bytes(self._own_key())

    @property
    def key_der(self) -> Secret:
        """As `key_pem`, in DER."""
        return certificates.key_bytes(self._own_key(), encoding=Encoding.DER)

    def _own_key(self) -> PrivateKey:
        if self.key is None:
            raise ValueError("the key was made elsewhere")
        return self.key


class Authority:
    """One authority, opened: its folder and its key."""

    def __init__(
        self, folder: issuer_store.Folder, key: PrivateKey, clock: Clock = certificates.utc_now
    ) -> None:
        self.path = folder.path
        self.certificate = folder.certificate
        self.issuers = folder.issuers
        self._key = key
        self._clock = clock
        self._record = issuer_store.Record(folder.path)

    @classmethod
    def create_root(
        cls,
        path: Path,
        name: str,
        passphrase: Secret,
        *,
        days: int = ROOT_DAYS,
        key_type: str = "ec",
        path_length: int = _PATH_LENGTH,
        clock: Clock = certificates.utc_now,
    ) -> Authority:
        """A new root in the folder `path`, which must be empty or absent."""
        _check_name(name)
        _check_passphrase(passphrase)
        issuer_store.refuse_existing(path)
        now = clock()
        key = certificates.new_key(key_type, authority=True)
        own = certificates.build(
            name, key.public_key(), None, key, now - BACKDATE, _end(now, days),
            Purpose(authority=True, path_length=path_length),
        )  # fmt: skip
        issuer_store.create(path, own, (), certificates.key_bytes(key, passphrase).reveal())
        return cls.open(path, passphrase, clock=clock)

    @classmethod
    def open(
        cls, path: Path, passphrase: Secret, *, clock: Clock = certificates.utc_now
    ) -> Authority:
        """The authority in the folder `path`. Raises AuthorityError: none there, wrong passphrase,
        damaged."""
        folder = issuer_store.load(path)
        try:
            key = load_pem_private_key(folder.encrypted_key, passphrase.reveal())
        except (ValueError, TypeError):  # TypeError: a key that is not encrypted
            raise AuthorityError(
                f"the passphrase does not open {path}",
                next_step="Each authority has its own passphrase; give this one's.",
            ) from None
        if not isinstance(key, PrivateKey) or (
            key.public_key() != folder.certificate.public_key()
        ):
            raise AuthorityError(f"key and certificate in {path} do not belong together")
        return cls(folder, key, clock)

    def __enter__(self) -> Authority:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._record.close()

    @property
    def full_chain(self) -> tuple[x509.Certificate, ...]:
        """This authority and those above it, the root last."""
        return (self.certificate, *self.issuers)

    @property
    def root(self) -> x509.Certificate:
        """What a peer has to trust."""
        return self.full_chain[-1]

    @property
    def key_pem(self) -> Secret:
        """The authority's own key, PKCS#8 and not encrypted: for an IoT Edge gateway, which must
        sign by itself. Nothing else has a use for it."""
        return certificates.key_bytes(self._key)

    def change_passphrase(self, passphrase: Secret) -> None:
        """Encrypt the key anew; from then on only the new passphrase opens the folder."""
        _check_passphrase(passphrase)
        encrypted = certificates.key_bytes(self._key, passphrase).reveal()
        issuer_store.replace_key(self.path, encrypted)

    def create_intermediate(
        self,
        path: Path,
        name: str,
        passphrase: Secret,
        *,
        days: int = INTERMEDIATE_DAYS,
        key_type: str = "ec",
        path_length: int = 0,
    ) -> Authority:
        """An authority below this one, in a folder and with a passphrase of its own.

        `path_length` is how many authorities it may have below it, itself.
        """
        _check_name(name)
        _check_passphrase(passphrase)
        issuer_store.refuse_existing(path)
        self._check_path_length(path_length)
        if name in (names := certificates.common_names(self.certificate.subject)):
            # A chain would end there: subject and issuer alike are what tells a root.
            raise IssueError(f"{names[0]} is the name of the authority above")
        key = certificates.new_key(key_type, authority=True)
        purpose = Purpose(authority=True, path_length=path_length)
        issued = self._issue(name, key.public_key(), days, purpose, AUTHORITY, renew=True)
        issuer_store.create(
            path, issued.certificate, issued.issuers,
            certificates.key_bytes(key, passphrase).reveal(),
        )  # fmt: skip
        return Authority.open(path, passphrase, clock=self._clock)

    def issue_leaf(
        self,
        *,
        registration_id: str,
        csr: bytes | None = None,
        days: int = LEAF_DAYS,
        key_type: str = "ec",
        renew: bool = False,
    ) -> Issued:
        """A device's certificate for TLS client authentication; its common name is the id.

        `csr` (PKCS#10, PEM or DER) is signed by the key that it holds, which proves possession,
        and its common name is the id; nothing else in it is copied. Without it a key is made.
        """
        check_registration_id(registration_id)
        key = None if csr is not None else certificates.new_key(key_type)
        public = key.public_key() if key else _key_of_csr(csr or b"", registration_id)
        return self._issue(
            registration_id, public, days, certificates.CLIENT, DEVICE, renew=renew, key=key
        )

    def issue_server(
        self,
        *,
        names: Sequence[str],
        csr: bytes | None = None,
        days: int = SERVER_DAYS,
        key_type: str = "ec",
        renew: bool = False,
    ) -> Issued:
        """A server's certificate for host names and IP addresses; the first is the common name."""
        if not names:
            raise IssueError("a server's certificate needs a name")
        for name in names:
            if not certificates.is_server_name(name):
                raise IssueError(f"{name!r} is neither a host name nor an IP address")
        _check_name(names[0])
        key = None if csr is not None else certificates.new_key(key_type)
        public = key.public_key() if key else _key_of_csr(csr or b"", names[0])
        purpose = Purpose(server=True, names=tuple(names))
        return self._issue(names[0], public, days, purpose, SERVER, renew=renew, key=key)

    def issue_verification(self, code: str, *, key_type: str = "ec") -> Issued:
        """The certificate by which a cloud is shown that this authority is ours: its common name
        is the code that the cloud gave."""
        check_registration_id(code)
        key = certificates.new_key(key_type)
        return self._issue(
            code, key.public_key(), _VERIFICATION_DAYS, Purpose(), VERIFICATION, renew=True,
            key=key,
        )  # fmt: skip

    def renew(self, serial: str, *, csr: bytes | None = None, days: int = LEAF_DAYS) -> Issued:
        """A successor of a device's certificate: for the same key, or for that of `csr`.

        The old one stays valid to its end, so that the unit can change over; revoke it when its
        key is lost. Raises IssueError: unknown, revoked, not a device's.
        """
        entry = self.find(serial)
        if entry.kind != DEVICE:
            raise IssueError(f"serial {entry.serial} is no device's; issue a new one")
        if entry.revoked_at is not None:
            raise IssueError(f"serial {entry.serial} is revoked")
        public = certificates.public_key(entry.certificate)
        if csr is not None:
            public = _key_of_csr(csr, entry.name)
        return self._issue(entry.name, public, days, certificates.CLIENT, DEVICE, renew=True)

    def revoke(self, serial: str, reason: str = "unspecified") -> Entry:
        """Revoke a certificate that was issued here. The next `crl()` has it."""
        if reason not in REASONS:
            raise IssueError(f"{reason!r} is not one of: {', '.join(REASONS)}")
        entry = self.find(serial)
        self._record.revoke(entry.serial, reason, self._clock())
        return self.find(serial)

    def crl(self, *, days: int = CRL_DAYS) -> x509.CertificateRevocationList:
        """The list of all that was revoked, with the next number, to be replaced in `days`."""
        now = self._clock()
        end = _end(now, days)
        number, revoked = self._record.begin_crl()
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now)
            .next_update(end)
            .add_extension(x509.CRLNumber(number), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                    self.certificate.extensions.get_extension_for_class(
                        x509.SubjectKeyIdentifier
                    ).value
                ),
                critical=False,
            )
        )
        for entry in revoked:
            if entry.revoked_at is not None:
                builder = builder.add_revoked_certificate(_revoked(entry, entry.revoked_at))
        return builder.sign(self._key, hashes.SHA256())

    def entries(self, name: str | None = None) -> list[Entry]:
        """All that was issued, or what was issued to a name; oldest first."""
        return self._record.entries(name)

    def find(self, serial: str) -> Entry:
        """Raises IssueError when no such certificate was issued here."""
        entry = self._record.find(serial)
        if entry is None:
            raise IssueError(f"{self.path} issued no certificate with serial {serial}")
        return entry

    def _issue(
        self,
        name: str,
        public: PublicKey,
        days: int,
        purpose: Purpose,
        kind: str,
        *,
        renew: bool,
        key: PrivateKey | None = None,
    ) -> Issued:
        now = self._clock()
        own_begin = self.certificate.not_valid_before_utc
        own_end = self.certificate.not_valid_after_utc
        if now < own_begin:
            raise IssueError(
                f"it is {now:%Y-%m-%d} on this machine, before the issuer's own certificate began",
                next_step="Set this machine's clock.",
            )
        end = _end(now, days)
        if end > own_end:
            raise IssueError(
                f"{days} days end after the issuer's own certificate, on {own_end:%Y-%m-%d}",
                next_step="Ask for fewer days, or make a new issuer.",
            )
        begin = max(now - BACKDATE, own_begin)
        certificate = certificates.build(
            name, public, self.certificate, self._key, begin, end, purpose
        )
        self._record.add(Entry(name, kind, certificate), now, renew=renew)
        return Issued(certificate, self.full_chain, key)

    def _check_path_length(self, wanted: int) -> None:
        basic = self.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        if basic.path_length is not None and wanted >= basic.path_length:
            raise IssueError(
                f"{self.path} may have {basic.path_length} authorities below it in a line, "
                f"not {wanted + 1}"
            )


def check_registration_id(registration_id: str) -> None:
    """Raises IssueError where DPS would not take the id, or it is too long for a common name."""
    if not _REGISTRATION_ID.fullmatch(registration_id):
        raise IssueError(
            f"{registration_id!r} is no registration id: 1 to {_NAME_MAX} letters, digits or "
            "- . _ : of which the last is a letter, digit or -"
        )


def _key_of_csr(csr: bytes, name: str) -> PublicKey:
    """The key in a request that asks for `name` and was signed with that key."""
    if len(csr) > _CSR_MAX:
        raise IssueError(f"the request has {len(csr)} bytes, more than {_CSR_MAX}")
    try:
        request = certificates.load_csr(csr)
        found = certificates.common_names(request.subject)
        key = request.public_key()
        signed = request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, UserWarning):
        # A warning (a country's name of six letters) is raised where a program wants that.
        raise IssueError("the request is no PKCS#10 that can be read, PEM or DER") from None
    weakness = certificates.key_weakness(key)
    if weakness or not isinstance(key, PublicKey):
        raise IssueError(
            f"the key in the request is not taken: {weakness}",
            next_step="Use P-256, or RSA with 2048 bits.",
        )
    if not signed:
        raise IssueError("the request is not signed with its own key")
    if found != [name]:
        raise IssueError(f"the request asks for the common name {found}, not {name!r}")
    return key


def _check_name(name: str) -> None:
    if not name.isprintable() or not 0 < len(name) <= _NAME_MAX or name != name.strip():
        raise IssueError(f"{name!r} is no name of 1 to {_NAME_MAX} printable characters")


def _check_passphrase(passphrase: Secret) -> None:
    if len(passphrase.reveal()) < PASSPHRASE_MIN:
        raise AuthorityError(
            f"the passphrase has fewer than {PASSPHRASE_MIN} characters",
            next_step="Make one: openssl rand -base64 24",
        )


def _end(now: datetime.datetime, days: int) -> datetime.datetime:
    if days < 1:
        raise IssueError(f"{days} days are no lifetime")
    try:
        return now + datetime.timedelta(days=days)
    except OverflowError:
        raise IssueError(f"{days} days end after the year 9999") from None


def _revoked(entry: Entry, at: datetime.datetime) -> x509.RevokedCertificate:
    builder = (
        x509.RevokedCertificateBuilder()
        .serial_number(entry.certificate.serial_number)
        .revocation_date(at)
    )
    reason = x509.ReasonFlags[entry.reason]
    if reason is not x509.ReasonFlags.unspecified:  # which RFC 5280 5.3.1 wants left out
        builder = builder.add_extension(x509.CRLReason(reason), critical=False)
    return builder.build()
