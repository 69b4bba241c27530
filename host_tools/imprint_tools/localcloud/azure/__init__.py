"""Azure's provisioning service, hubs and gateways on loopback: `cloud.AzureCloud`."""
