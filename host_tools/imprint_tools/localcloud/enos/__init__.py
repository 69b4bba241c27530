"""Envision EnOS on loopback, over CoAP, MQTT and REST: `cloud.EnosCloud`."""
