"""The journey `azure-dps`: the provisioning service (DPS) says which hub is ours. Pure.

The first step is azure_dps_registration.py; what it brings is the record that the vault keeps:

    id_scope, registration_id   whose it is
    hub, device_id              where to log in, and as whom

Certificate or key are those of the identity in both steps. A hub that refuses us is no reason to
halt: DPS is asked again, which may name another one.
"""

from micropython import const

from imprint.clouds import azure_hub as hub

TYPE_CHECKING = const(False)
if TYPE_CHECKING:
    from imprint.identity import Identity

SESSION = "azure_session"  # of imprint.net
PASSING = "clouds.azure_sas clouds.azure_dps_registration "  # see app


def endpoint(identity: "Identity", record: "dict | None") -> "hub.Endpoint | None":
    """Where to log in; None: DPS has not said it, or to another identity of this board."""
    if (
        not record
        or record.get("id_scope") != identity.id_scope
        or record.get("registration_id") != identity.registration_id
    ):
        return None
    key = identity.symmetric_key if identity.attestation == "symmetric-key" else None
    return hub.Endpoint(record["hub"], record["device_id"], key)
