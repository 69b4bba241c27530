"""What a cloud module says about an MQTT connection. Pure: net.mqtt opens it."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from imprint.secret import Secret


class ConnectRequest:
    """One CONNECT over verified TLS, MQTT 3.1.1, without a will."""

    def __init__(
        self,
        host: str,
        port: int,
        client_id: bytes,
        username: bytes,
        password: "Secret | None",
        keepalive_s: int,
        clean_session: bool = True,
    ) -> None:
        self.host = host  # also the name that the certificate must carry, and the SNI
        self.port = port
        self.client_id = client_id
        self.username = username
        self.password = password  # None: a client certificate proves who we are
        self.keepalive_s = keepalive_s
        self.clean_session = clean_session  # False: the broker keeps our session meanwhile
